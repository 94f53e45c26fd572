//! What is kept for whom, and for how long.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use ambit_core::identity::Identity;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::http::h1::Connection;
use crate::io::Io;

fn identity(account: &str) -> Identity {
    Identity::new("cluster.local", "shop", account).expect("an identity")
}

/// A connection to nobody in particular, and the backend's end of it.
async fn connection() -> (Connection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let stream = TcpStream::connect(listener.local_addr().expect("an address"));
    let stream = stream.await.expect("a connection");
    let (far, _) = listener.accept().await.expect("the other end");
    (Connection::new(Io::Tcp(stream)), far)
}

#[test]
fn a_key_is_found_by_what_is_sought_and_by_nothing_else() {
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let (web, other) = (Arc::<str>::from("web"), Arc::<str>::from("other"));
    let (front, back) = (identity("front"), identity("back"));
    let sought = Sought {
        workload: &web,
        address: address("10.0.0.1:80"),
        caller: Some((&front, address("10.0.0.7:0").ip())),
        tls: Some(1),
    };
    let map: HashMap<Key, ()> = HashMap::from([(sought.key(), ())]);
    assert!(map.contains_key(&sought));
    let others = [
        Sought {
            workload: &other,
            ..sought
        },
        Sought {
            address: address("10.0.0.1:81"),
            ..sought
        },
        Sought {
            caller: Some((&back, address("10.0.0.7:0").ip())),
            ..sought
        },
        Sought {
            caller: Some((&front, address("10.0.0.8:0").ip())),
            ..sought
        },
        Sought {
            caller: None,
            ..sought
        },
        Sought {
            tls: None,
            ..sought
        },
    ];
    for other in others {
        assert!(!map.contains_key(&other), "{other:?}");
    }
}

#[tokio::test]
async fn what_was_used_last_is_taken_first_and_nothing_is_kept_too_long_or_for_who_is_gone() {
    let connections = Connections::default();
    let uid = Arc::<str>::from("web");
    let sought = Sought {
        workload: &uid,
        address: "10.0.0.1:80".parse().expect("an address"),
        caller: None,
        tls: None,
    };
    let kept = || connections.kept.load(Ordering::Relaxed);
    let now = Instant::now();
    let mut byte = [0];
    assert!(connections.place(&sought).take(now).is_none());
    let (first, mut far_of_first) = connection().await;
    let (second, mut far_of_second) = connection().await;
    for connection in [first, second] {
        connections.place(&sought).keep(connection);
    }
    assert_eq!(kept(), 2);
    drop(connections.place(&sought).take(now).expect("one is there"));
    assert_eq!(far_of_second.read(&mut byte).await.ok(), Some(0));
    assert_eq!(kept(), 1);
    let late = Instant::now() + IDLE;
    assert!(connections.place(&sought).take(late).is_none());
    assert_eq!(far_of_first.read(&mut byte).await.ok(), Some(0), "too old");
    assert_eq!(kept(), 0);

    // It comes back when its workload is gone already.
    let place = connections.place(&sought);
    let (third, mut far_of_third) = connection().await;
    connections.sweep(|_| false);
    place.keep(third);
    assert_eq!((kept(), connections.h1.lock().len()), (1, 1));
    connections.sweep(|_| false);
    assert_eq!((kept(), connections.h1.lock().len()), (0, 0));
    assert_eq!(far_of_third.read(&mut byte).await.ok(), Some(0), "closed");
}
