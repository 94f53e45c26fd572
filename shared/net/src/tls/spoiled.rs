//! Chains, lists and files that somebody has changed: none is taken for more than it is, and none stops who
//! reads it.

use std::sync::{Arc, LazyLock};

use ambit_core::identity::Identity;
use ambit_core::trust_domain::TrustDomains;
use proptest::collection::vec;
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::RootCertStore;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::testing::{CHANGE, block, blur, spoil};
use super::verify::{ClientVerifier, ServerVerifier};
use super::{Certified, identity_of, pem, provider};
use crate::revocation::testing::list;
use crate::revocation::{Judge, Lists, Revocations};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const NAMES: [&str; 6] = [
    WEB,
    "spiffe://cluster.local/ns/shop/sa/db",
    "spiffe://cluster.local/ns/shop",
    "spiffe://cluster.local/ns/shop/sa/web/",
    "https://cluster.local/ns/shop/sa/web",
    "spiffe:///ns/shop/sa/web",
];

/// A root, an authority below it, and whom that one has signed and revoked.
struct World {
    root: CertificateDer<'static>,
    middle: CertifiedIssuer<'static, KeyPair>,
    leaf: CertificateDer<'static>,
    key: KeyPair,
    list: String,
    server: ServerVerifier,
    client: ClientVerifier,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let root = CertifiedIssuer::self_signed(authority("root"), key()).expect("signed");
    let middle = CertifiedIssuer::signed_by(authority("middle"), key(), &root).expect("signed");
    let own = key();
    let leaf = leaf(
        &middle,
        &[SanType::URI(WEB.try_into().expect("a URI"))],
        &own,
    );
    let root = root.der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).expect("a root");
    let roots = Arc::new(roots);
    let judge = Judge::new(Revocations::default(), [root.clone()].into());
    let chain = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider().clone());
    World {
        server: ServerVerifier {
            roots,
            algorithms: provider().signature_verification_algorithms,
            expected: [WEB.parse().expect("an identity")].into(),
            names: TrustDomains::default(),
            judge: judge.clone(),
        },
        client: ClientVerifier {
            chain: chain.build().expect("a verifier"),
            trust_domain: "cluster.local".into(),
            names: TrustDomains::default(),
            judge,
        },
        list: list(&middle, [SerialNumber::from(30u64)], |_| {}),
        root,
        middle,
        leaf,
        key: own,
    }
});

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    names: &[SanType],
    key: &KeyPair,
) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names.to_vec();
    params.serial_number = Some(SerialNumber::from(30u64));
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let leaf = params.signed_by(key, issuer).expect("signed");
    leaf.der().clone()
}

impl World {
    /// Whether a client, and a server, believe who shows this.
    fn believe(&self, leaf: &CertificateDer<'_>, middle: &CertificateDer<'_>) -> [bool; 2] {
        let (middle, now) = ([middle.clone()], UnixTime::now());
        let name = ServerName::try_from("localhost").expect("a name");
        let server = &self.server;
        [
            server
                .verify_server_cert(leaf, &middle, &name, &[], now)
                .is_ok(),
            self.client.verify_client_cert(leaf, &middle, now).is_ok(),
        ]
    }

    /// Whether a file of lists says that the leaf is revoked.
    fn revokes(&self, lists: &Lists) -> bool {
        let (middle, roots) = ([self.middle.der().clone()], [self.root.clone()]);
        lists.find(&self.leaf, &middle, &roots).is_some()
    }
}

fn changes() -> impl Strategy<Value = Vec<[u8; CHANGE]>> {
    vec(any::<[u8; CHANGE]>(), 1..4)
}

proptest! {
    #[test]
    fn nobody_is_believed_by_a_chain_that_was_changed(
        of_leaf in any::<bool>(),
        changes in changes(),
    ) {
        let world = &*WORLD;
        let (mut leaf, mut middle) = (world.leaf.clone(), world.middle.der().clone());
        prop_assert_eq!(world.believe(&leaf, &middle), [true, true]);
        let changed = if of_leaf { &mut leaf } else { &mut middle };
        *changed = spoil(changed, &changes).into();
        let same = leaf == world.leaf && middle == *world.middle.der();
        prop_assert_eq!(world.believe(&leaf, &middle), [same, same]);
        // Resumed sessions are judged again, by lists that may be newer.
        let lists = Lists::parse(world.list.as_bytes()).expect("a list");
        let revoked = lists.find(&leaf, &[middle], std::slice::from_ref(&world.root));
        prop_assert!(revoked.is_some() || !same);
    }

    #[test]
    fn an_identity_is_the_only_uri_of_a_certificate(
        uris in vec(0..NAMES.len(), 0..3),
        others in 0..3usize,
        changes in changes(),
    ) {
        let world = &*WORLD;
        let mut names: Vec<_> = uris
            .iter()
            .map(|uri| SanType::URI(NAMES[*uri].try_into().expect("a URI")))
            .collect();
        let other = SanType::DnsName("spiffe.example".try_into().expect("a name"));
        names.splice(0..0, std::iter::repeat_n(other, others));
        let certificate = leaf(&world.middle, &names, &world.key);
        let found = identity_of(&certificate).ok();
        let wanted: Option<Identity> = match uris[..] {
            [uri] => NAMES[uri].parse().ok(),
            _ => None,
        };
        prop_assert_eq!(found, wanted);
        // Whatever else there may be in it.
        let spoiled = spoil(&certificate, &changes);
        if let Ok(identity) = identity_of(&spoiled.into()) {
            let written = identity.to_string();
            prop_assert!(written.bytes().all(|octet| octet.is_ascii_graphic()));
            prop_assert_eq!(written.parse().ok(), Some(identity));
        }
    }

    #[test]
    fn a_list_that_was_changed_revokes_nobody(changes in changes()) {
        let world = &*WORLD;
        let (_, list) = x509_parser::pem::parse_x509_pem(world.list.as_bytes()).expect("PEM");
        let spoiled = spoil(&list.contents, &changes);
        if let Ok(lists) = Lists::parse(block("X509 CRL", &spoiled).as_bytes()) {
            prop_assert_eq!(lists.len(), 1);
            prop_assert_eq!(world.revokes(&lists), spoiled == list.contents);
        }
    }

    #[test]
    fn a_file_of_lists_has_them_all_or_is_not_taken(
        before in 0..3usize,
        changes in changes(),
    ) {
        let world = &*WORLD;
        let file = world.list.repeat(before);
        let lists = Lists::parse(file.as_bytes()).expect("lists");
        prop_assert_eq!((lists.len(), world.revokes(&lists)), (before, before > 0));
        let blurred = blur(&file, &changes);
        let text = String::from_utf8_lossy(&blurred);
        let is_cut = blurred.len() + changes.len() < file.len();
        if let Ok(lists) = Lists::parse(&blurred) {
            prop_assert!(lists.len() == before || is_cut, "{}", text);
            prop_assert!(!lists.is_empty() || text.trim().is_empty(), "{}", text);
        }
    }

    #[test]
    fn an_answer_of_the_authority_is_whole_or_refused(
        which in 0..5usize,
        as_text in any::<bool>(),
        changes in changes(),
    ) {
        let world = &*WORLD;
        let mut chain = [&world.leaf, world.middle.der(), &world.root].map(pem);
        let mut key = world.key.serialize_pem();
        match chain.get_mut(which) {
            Some(text) if as_text => *text = blurred(text, &changes),
            Some(text) => {
                let certificate = CertificateDer::from_pem_slice(text.as_bytes()).expect("PEM");
                *text = block("CERTIFICATE", &spoil(&certificate, &changes));
            }
            None if as_text => key = blurred(&key, &changes),
            None => key = OTHER_KEY.clone(),
        }
        if let Ok(certified) = Certified::from_pem(&chain, &key) {
            let found = identity_of(&certified.chain()[0]).expect("an identity");
            prop_assert_eq!(certified.identity(), &found);
            let (_, leaf) = X509Certificate::from_der(&certified.chain()[0]).expect("read");
            prop_assert_eq!(leaf.public_key().raw, world.key.subject_public_key_info());
            prop_assert!(key != *OTHER_KEY, "the key is another's");
            prop_assert!(!certified.roots().is_empty());
            prop_assert!(certified.server_config().is_ok());
        }
    }
}

static OTHER_KEY: LazyLock<String> = LazyLock::new(|| key().serialize_pem());

fn blurred(text: &str, changes: &[[u8; CHANGE]]) -> String {
    String::from_utf8_lossy(&blur(text, changes)).into_owned()
}
