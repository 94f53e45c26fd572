//! TLS to backends, as BackendTLSPolicies say.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::call::Call;
use super::changes::under_load;
use super::nginx::nginx;
use super::scene::{CLIENT, lab};
use super::told::{line, lines};
use crate::fixtures::addresses;

/// A certificate authority.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(params, key);
        Self { pem, issuer }
    }

    /// Certificate and key of a server, as PEM.
    fn server(&self, name: &str) -> [String; 2] {
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        [certificate.pem(), key.serialize_pem()]
    }

    fn config_map(&self, name: &str) -> String {
        let map = serde_json::json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "mesh"},
            "data": {"ca.crt": self.pem},
        });
        format!("---\n{map}\n")
    }
}

fn policy(validation: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\n\
         metadata: {{name: secure, namespace: mesh}}\nspec:\n  \
         targetRefs: [{{group: \"\", kind: Service, name: secure}}]\n  validation: {{{validation}}}\n"
    )
}

/// Reached over TLS under the name that the policy says, or not at all.
#[test]
fn a_backend_is_who_its_policy_says() {
    let lab = lab();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let [certificate, key] = ours.server("secure.example");
    // Plain text would be answered with 400. The other port has nothing newer than TLS 1.2.
    let server = "listen 8443 ssl; listen [::]:8443 ssl;\n\
         ssl_protocols TLSv1.2 TLSv1.3;\n\
         ssl_certificate /srv/conf/server.crt; ssl_certificate_key /srv/conf/server.key;\n\
         location / { default_type text/plain; return 200 \"$ssl_server_name $ssl_protocol $host $request_uri\"; }";
    let old = server
        .replace("8443", "8444")
        .replace("TLSv1.2 TLSv1.3", "TLSv1.2");
    let server = format!("{server}\n}}\nserver {{\n{old}");
    let files = [("server.crt", &*certificate), ("server.key", &*key)];
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: secure, namespace: mesh}\n\
         spec: {selector: {app: secure}, ports: [{name: http, port: 80, targetPort: 8443}, {name: http-old, port: 81, targetPort: 8444}]}\n";
    lab.apply(
        &(nginx("mesh", "secure", 8443, &server, &files)
            + service
            + &ours.config_map("ours")
            + &theirs.config_map("theirs")),
    );
    let get = |path: &str| Call::get(CLIENT, &format!("secure.mesh{path}")).answer(&lab);
    let roots =
        |name: &str| format!("caCertificateRefs: [{{group: \"\", kind: ConfigMap, name: {name}}}]");

    assert_eq!(
        get("/before").status,
        400,
        "plain text, as nobody said otherwise"
    );
    let good = format!("hostname: secure.example, {}", roots("ours"));
    lab.apply(&policy(&good));
    for path in ["/one?x=y", "/two"] {
        let answer = get(path);
        assert_eq!(answer.status, 200, "{:#?}", lines(&lab, &[path]));
        assert_eq!(
            answer.body,
            format!("secure.example TLSv1.3 secure.mesh {path}")
        );
    }
    let old = Call::get(CLIENT, "secure.mesh:81/old").answer(&lab);
    assert_eq!(old.body, "secure.example TLSv1.2 secure.mesh /old");
    let names = |name: &str| {
        format!(
            "hostname: sni.example, subjectAltNames: [{{type: Hostname, hostname: {name}}}], {}",
            roots("ours")
        )
    };
    lab.apply(&policy(&names("secure.example")));
    assert_eq!(get("/sni").body, "sni.example TLSv1.3 secure.mesh /sni");

    for (name, validation, reason) in [
        (
            "another-name",
            format!("hostname: other.example, {}", roots("ours")),
            "certificate",
        ),
        (
            "another-root",
            format!("hostname: secure.example, {}", roots("theirs")),
            "certificate",
        ),
        (
            "roots-of-the-machine",
            "hostname: secure.example, wellKnownCACertificates: System".to_owned(),
            "certificate",
        ),
        ("another-alternative", names("other.example"), "certificate"),
    ] {
        lab.apply(&policy(&validation));
        let answer = get(&format!("/{name}"));
        assert_eq!(answer.status, 503, "{name}: {answer:?}");
        let told = line(&lab, &[&format!("/{name} "), "\" 503 URX "]);
        assert!(told.contains(reason) && told.contains("TLS to"), "{told}");
    }
    // Roots that are not there: what cannot be followed is refused.
    let _ = lab.try_apply(&policy(&format!(
        "hostname: secure.example, {}",
        roots("gone")
    )));
    assert_eq!(get("/no-roots").status, 500);
    // A change back needs no restart.
    lab.apply(&policy(&good));
    assert_eq!(get("/again").status, 200);
    // From one policy that fits to another nothing fails.
    let load = ["http", "--rate", "100", "http://secure.mesh/load"];
    let new = [&load[..], &["--new-connections"]].concat();
    under_load(&lab, &[(CLIENT, &load), (CLIENT, &new)], || {
        for _ in 0..3 {
            lab.apply(&policy(&names("secure.example")));
            assert_eq!(get("/sni").body, "sni.example TLSv1.3 secure.mesh /sni");
            lab.apply(&policy(&good));
            assert_eq!(get("/one").body, "secure.example TLSv1.3 secure.mesh /one");
        }
    });
    let _ = line(&lab, &["/again"]);
    assert_eq!(
        lines(&lab, &["\" 400 "]).len(),
        1,
        "plain text came to the server"
    );
}

/// A server outside the mesh that an EndpointSlice names by its address alone, with certificates from a Secret.
#[test]
fn a_server_outside_the_mesh_is_reached_over_tls() {
    let lab = lab();
    let ours = Authority::new("ours");
    let [certificate, key] = ours.server("secure.example");
    let server = "listen 8443 ssl; listen [::]:8443 ssl; listen 8080; listen [::]:8080;\n\
         ssl_certificate /srv/conf/server.crt; ssl_certificate_key /srv/conf/server.key;\n\
         location / { default_type text/plain; return 200 \"$ssl_server_name $request_uri\"; }";
    let files = [("server.crt", &*certificate), ("server.key", &*key)];
    lab.apply(&nginx("outside", "secure", 8443, server, &files));
    let ip = &addresses(&lab, "outside/secure")[0];
    let service = |name: &str, port: u16| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: mesh}}\n\
             spec: {{ports: [{{name: http, port: 80, targetPort: {port}}}]}}\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: {name}-1, namespace: mesh, labels: {{kubernetes.io/service-name: {name}}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: {port}, protocol: TCP}}]\n\
             endpoints: [{{addresses: [\"{ip}\"], conditions: {{ready: true}}}}]\n"
        )
    };
    let secret = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "ours", "namespace": "mesh"},
        "stringData": {"ca.crt": ours.pem},
    });
    let validation =
        "hostname: secure.example, caCertificateRefs: [{group: \"\", kind: Secret, name: ours}]";
    let get = |name: &str| Call::get(CLIENT, &format!("{name}.mesh/x")).answer(&lab);

    lab.apply(&(service("plain", 8080) + &service("secure", 8443)));
    assert_eq!(get("plain").body, " /x");
    assert_eq!(
        get("secure").status,
        400,
        "plain text, as nobody said otherwise"
    );
    let _ = lab.try_apply(&policy(validation));
    assert_eq!(get("secure").status, 500, "the Secret is missing");
    lab.apply(&format!("---\n{secret}\n"));
    assert_eq!(get("secure").body, "secure.example /x");
    lab.delete("---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: plain-1, namespace: mesh}\n");
    assert_eq!(get("plain").status, 503, "it has no endpoint any more");
    assert_eq!(get("secure").status, 200);
}
