//! Pods and services without the mesh.

use std::collections::BTreeSet;

use crate::fixtures::{addresses, cluster_ips, host, plain, text};

#[test]
fn pods_reach_pods_and_see_their_addresses() {
    let lab = plain();
    for server in ["echo-1", "echo-2"] {
        let client = addresses(lab, "shop/client-1");
        for (server, client) in addresses(lab, &format!("shop/{server}"))
            .iter()
            .zip(&client)
        {
            let answer = lab.get("shop/client-1", &format!("http://{}:8080/", host(server)));
            let caller = text(&answer["remote_address"]);
            assert!(
                caller.starts_with(&format!("{}:", host(client))),
                "{caller} is not {client}"
            );
        }
    }
}

#[test]
fn services_choose_among_their_endpoints() {
    let lab = plain();
    for address in cluster_ips(lab, "shop/echo") {
        let url = format!("http://{}/", host(&address));
        let names: BTreeSet<String> = (0..24)
            .map(|_| text(&lab.get("shop/client-1", &url)["hostname"]))
            .collect();
        let both = ["echo-1", "echo-2"].map(str::to_owned);
        assert_eq!(names, both.into_iter().collect(), "{url}");
    }
}

#[test]
fn nodes_and_the_servers_themselves_reach_services() {
    let lab = plain();
    let [v4, v6] = cluster_ips(lab, "shop/echo-1");
    for target in ["node/node-2", "shop/echo-1"] {
        for address in [&v4, &v6] {
            let answer = lab.get(target, &format!("http://{}/", host(address)));
            assert_eq!(answer["hostname"], "echo-1", "{target}");
        }
    }
}

#[test]
fn a_service_without_endpoints_refuses_at_once() {
    let lab = plain();
    for address in cluster_ips(lab, "shop/none") {
        let url = format!("http://{}/", host(&address));
        let said = lab
            .load("shop/client-1", &["get", "--timeout", "5s", &url])
            .failure();
        assert!(said.to_lowercase().contains("refused"), "{said}");
    }
}
