//! nginx as a server of a test.

use super::scene::program_pod;

/// It does not run as root, and the lab of an ordinary user has no other user: a user namespace of its own
/// gives it one, wherever the tests run.
const SCRIPT: &str = "PATH=$PATH:/usr/sbin exec unshare --user --map-user=1 --map-group=1 \
     nginx -e stderr -c /srv/conf/nginx.conf";

/// A pod with a `server` of nginx that listens on `port`, and what its files in /srv/conf hold.
pub(super) fn nginx(
    namespace: &str,
    name: &str,
    port: u16,
    server: &str,
    files: &[(&str, &str)],
) -> String {
    let scratch: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path /srv/data/{what};\n"))
        .concat();
    let config = format!(
        "daemon off;\npid /srv/data/nginx.pid;\nevents {{}}\nhttp {{\naccess_log off;\n{scratch}\
         server {{\n{server}\n}}\n}}\n"
    );
    let data: serde_json::Map<_, _> = [("nginx.conf", &*config)]
        .iter()
        .chain(files)
        .map(|(name, text)| ((*name).to_owned(), (*text).into()))
        .collect();
    let map = serde_json::json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    });
    let container = format!(
        "command: [sh, -ec, '{SCRIPT}']\n    \
         volumeMounts: [{{name: data, mountPath: /srv/data}}, {{name: conf, mountPath: /srv/conf}}]"
    );
    let volumes = format!(
        "  volumes: [{{name: data, emptyDir: {{}}}}, {{name: conf, configMap: {{name: {name}}}}}]\n"
    );
    format!("---\n{map}\n") + &program_pod(namespace, name, port, &container) + &volumes
}
