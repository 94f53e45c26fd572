//! Asks the certificate authority as a node proxy does.

use ambit_core::identity::Identity;
use ambit_net::ca::{CaClient, CaConfig};
use ambit_net::grpc::{Address, Remote};
use serde_json::{Value, json};

use super::Sign;

/// Whom the certificate names, or why there is none.
pub(super) async fn ask(options: &Sign) -> anyhow::Result<Value> {
    let address: Address = options.authority.parse()?;
    let mut remote = Remote::new(
        address.with_server_name(&options.server_name)?,
        &options.roots,
    );
    remote.token = Some(options.token.clone());
    let identity: Identity = options.identity.parse()?;
    let signed = CaClient::new(CaConfig::new(remote)).fetch(&identity).await;
    Ok(match signed {
        Ok(certified) => json!({ "signed": certified.identity().to_string() }),
        Err(error) => json!({ "error": error.to_string() }),
    })
}
