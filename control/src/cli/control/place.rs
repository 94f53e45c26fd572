//! Where objects, tokens and the authority come from, by the flags.

use ambit_net::grpc::Address;

use super::check::Check;
use super::{Flags, Folder, Kubernetes, Place};
use crate::ca::{self, Certificates, External};
use crate::tokens::{Tokens, keys::Keys};

impl Flags {
    /// The keys of tokens; and whether the flags of files are there if and only if there are files.
    pub(super) fn files(&self, on_kubernetes: bool, check: &mut Check) -> Option<Keys> {
        for (flag, given, instead) in [
            (
                "--ca-dir",
                self.ca_dir.is_some(),
                "the authority is in a Secret",
            ),
            (
                "--jwks",
                self.jwks.is_some(),
                "the API server checks tokens",
            ),
            (
                "--token-issuer",
                self.token_issuer.is_some(),
                "the API server checks tokens",
            ),
        ] {
            let is_elsewhere = flag == "--ca-dir" && self.ca_address.is_some();
            if given && is_elsewhere {
                check.wrong(flag, "is not for --ca-address: another authority signs");
            } else if given && on_kubernetes {
                check.wrong(
                    flag,
                    format_args!("is not for --source kubernetes: {instead}"),
                );
            } else if !given && !on_kubernetes && !is_elsewhere {
                check.wrong(flag, "is needed with a folder");
            }
        }
        self.publishing(on_kubernetes, check);
        if on_kubernetes {
            return None;
        }
        if let Some(issuer) = &self.token_issuer {
            check.not_empty("--token-issuer", issuer);
        }
        check.ok("--jwks", Keys::read(self.jwks.clone()?))
    }

    fn publishing(&self, on_kubernetes: bool, check: &mut Check) {
        let flag = "--publish-dir";
        if self.publish_dir.is_none() {
            return;
        }
        if on_kubernetes {
            check.wrong(
                flag,
                "is not for --source kubernetes: ConfigMaps have what proxies are to know",
            );
        } else if self.ca_address.is_some() {
            check.wrong(flag, "is not for --ca-address: another authority publishes");
        }
    }

    /// The authority that signs instead of this process, if there is one.
    pub(super) fn external(&self, on_kubernetes: bool, check: &mut Check) -> Option<External> {
        let (address, folder) = match (&self.ca_address, &self.tls_dir) {
            (Some(address), Some(folder)) => (address, folder.clone()),
            (Some(_), None) => {
                let what = "needs --tls-dir: who signs nothing needs a certificate to serve with";
                check.wrong("--ca-address", what);
                return None;
            }
            (None, Some(_)) => {
                let what = "is only for --ca-address: an authority of our own signs the server's certificate";
                check.wrong("--tls-dir", what);
                return None;
            }
            (None, None) => return None,
        };
        let parsed = address
            .parse::<Address>()
            .map_err(|error| error.to_string());
        check.ok("--ca-address", parsed)?;
        Some(External {
            address: address.clone(),
            folder,
            names: match on_kubernetes {
                true => self.service_names().into(),
                false => Vec::new(),
            },
        })
    }

    /// Only when nothing is wrong: this may write the folder of the authority.
    pub(super) fn place(
        &self,
        on_kubernetes: bool,
        keys: Option<Keys>,
        external: Option<External>,
        check: &mut Check,
    ) -> Option<Place> {
        if !check.mistakes.is_empty() {
            return None;
        }
        if on_kubernetes {
            let random = || format!("ambit-control-{:016x}", rand::random::<u64>());
            return Some(Place::Kubernetes(Kubernetes {
                namespace: self.namespace.clone(),
                identity: self.identity.clone().unwrap_or_else(random),
                token_audiences: self.token_audience.clone(),
                waypoint_image: self.waypoint_image.clone(),
                external,
            }));
        }
        let authority = match external {
            Some(external) => Certificates::Elsewhere(external),
            None => {
                let own = ca::files::load_or_make(self.ca_dir.as_ref()?, &self.trust_domain);
                Certificates::Here(check.ok("--ca-dir", own)?)
            }
        };
        let (issuer, audiences) = (self.token_issuer.clone()?, self.token_audience.clone());
        Some(Place::Folder(Box::new(Folder {
            source: self.source.clone(),
            authority,
            published: self.publish_dir.clone(),
            tokens: Tokens::new(keys?, issuer, audiences),
        })))
    }
}
