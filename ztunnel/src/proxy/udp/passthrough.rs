//! Plaintext UDP that arrives at a pod. It has no identity, and its sender's address proves nothing; policies decide what
//! that is worth.

use super::super::{Failure, PodProxy, details, dial};
use super::end::End;
use crate::connections::{Asked, Claim, Ends, Open, judge};

/// The far end of a flow: the application.
pub(super) fn connect(proxy: &PodProxy, open: &Open) -> Result<End, Failure> {
    let Ends {
        source,
        destination,
        transport,
        ..
    } = open.ends();
    let claim = Claim {
        local: proxy.pod.uid.clone(),
        peer_addr: source,
        transport,
        asked: Asked::Plaintext { destination },
    };
    open.claim(claim.clone());
    let index = proxy.shared.index();
    let judged = judge(&index, &claim);
    let plan = judged.as_ref().ok().map(|admitted| &admitted.plan);
    open.describe(details::inbound(&index, &claim, destination, plan));
    let plan = judged?.plan;
    let settings = proxy.shared.settings();
    dial::datagrams(&proxy.pod.sockets, &plan, source.ip(), settings).map(End::Socket)
}
