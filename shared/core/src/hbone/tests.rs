use proptest::prelude::*;

use super::proxy_protocol::{Header, HeaderError};
use super::*;
use crate::fixtures::{identity, pod, sock};
use crate::model::WorkloadType;

mod authorities {
    use super::*;

    #[test]
    fn good_ones() {
        let cases = [
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("[fd00::1]:80", "[fd00::1]:80"),
            ("[FD00:0::1]:080", "[fd00::1]:80"),
            ("[::ffff:10.0.0.1]:80", "10.0.0.1:80"),
            ("Web.NS.svc:65535", "web.ns.svc:65535"),
            ("web.:80", "web:80"),
            ("a_b-c.d1:1", "a_b-c.d1:1"),
            ("1a:1", "1a:1"),
        ];
        for (text, expected) in cases {
            let authority = text.parse::<Authority>();
            let shown = authority.map(|authority| authority.to_string());
            assert_eq!(shown.as_deref(), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn bad_ones() {
        use AuthorityError::{Malformed, NoHost, PortZero};
        let cases = [
            ("", Malformed),
            (":", Malformed),
            (":80", NoHost),
            ("10.0.0.1:0", PortZero),
            ("web:0", PortZero),
            ("web:00", PortZero),
            ("10.0.0.1", Malformed),
            ("10.0.0.1:", Malformed),
            ("10.0.0.1:65536", Malformed),
            ("10.0.0.1:000080", Malformed),
            ("10.0.0.1:+80", Malformed),
            ("10.0.0.1:-1", Malformed),
            ("10.0.0.1: 80", Malformed),
            (" 10.0.0.1:80", Malformed),
            ("10.0.0.256:80", Malformed),
            ("010.0.0.1:80", Malformed),
            ("1.2.3:80", Malformed),
            ("2130706433:80", Malformed),
            (".:80", Malformed),
            ("fd00::1:80", Malformed),
            ("[fd00::1]80", Malformed),
            ("[fd00::1:80", Malformed),
            ("[10.0.0.1]:80", Malformed),
            ("[fe80::1%eth0]:80", Malformed),
            ("a@b:80", Malformed),
            ("a/b:80", Malformed),
            ("wéb:80", Malformed),
            ("web\0:80", Malformed),
            ("web\r\n:80", Malformed),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Authority>(), Err(expected), "{text:?}");
        }
        let long = format!("{}:80", "a".repeat(254));
        assert_eq!(long.parse::<Authority>(), Err(Malformed));
    }
}

mod baggages {
    use super::*;

    #[test]
    fn a_workload_describes_itself() {
        let mut workload = pod("web-1", &[]);
        workload.workload_name = "web".into();
        workload.locality.region = "r 1,2".into();
        workload.canonical_revision = "".into();
        let text = Baggage::of(&workload).to_string();
        assert_eq!(
            text,
            "k8s.cluster.name=Kubernetes,k8s.namespace.name=ns,k8s.deployment.name=web,\
             service.name=web-1,cloud.region=r%201%2C2"
        );
        assert_eq!(Baggage::parse(&text), Baggage::of(&workload));
    }

    #[test]
    fn what_is_not_understood_is_skipped() {
        let parsed = Baggage::parse(
            " k8s.job.name = j ;property=1, unknown=x,novalue,=y,service.name=,\
             cloud.region=%zz%4,service.version=v%C3%A9",
        );
        let expected = Baggage {
            workload: Some((WorkloadType::Job, "j".into())),
            region: Some("%zz%4".into()),
            service_version: Some("vé".into()),
            ..Baggage::default()
        };
        assert_eq!(parsed, expected);
    }

    #[test]
    fn input_is_bounded() {
        let long = format!("service.name={}", "x".repeat(9_000));
        assert_eq!(Baggage::parse(&long), Baggage::default());
        let many = format!("{}service.name=x", "a=b,".repeat(200));
        assert_eq!(Baggage::parse(&many), Baggage::default());
    }
}

mod forwardeds {
    use super::*;

    #[test]
    fn both_ways() {
        let cases = [
            (Some("10.0.0.1:80"), None, "for=\"10.0.0.1:80\""),
            (
                Some("[fd00::1]:80"),
                Some("web.ns"),
                "for=\"[fd00::1]:80\";host=web.ns",
            ),
            (None, Some("web.ns:80"), "host=\"web.ns:80\""),
            (None, Some("a\"b;c,d\\"), "host=\"a\\\"b;c,d\\\\\""),
            (None, None, ""),
        ];
        for (client, host, text) in cases {
            let forwarded = Forwarded {
                client: client.map(sock),
                host: host.map(str::to_owned),
            };
            assert_eq!(forwarded.to_string(), text);
            assert_eq!(Forwarded::parse(text), forwarded, "{text}");
        }
    }

    #[test]
    fn what_other_proxies_write() {
        let cases = [
            (
                "For=\"10.0.0.1:80\"; Host=a;proto=https",
                Some("10.0.0.1:80"),
                Some("a"),
            ),
            (
                "for=10.0.0.1:80, for=\"10.0.0.2:80\";host=b",
                Some("10.0.0.1:80"),
                None,
            ),
            ("for=unknown;host=a", None, Some("a")),
            ("for=\"_hidden\"", None, None),
            ("host=a;host=b", None, Some("a")),
            ("host=", None, None),
            ("host=\"\"", None, None),
            ("host=\"a\tb\"", None, None),
            ("host=\u{fc}", None, None),
            ("host=\"open", None, Some("\"open")),
            (";;,=,", None, None),
        ];
        for (text, client, host) in cases {
            let parsed = Forwarded::parse(text);
            assert_eq!(parsed.client, client.map(sock), "{text}");
            assert_eq!(parsed.host.as_deref(), host, "{text}");
        }
        let long = format!("host={}", "x".repeat(5_000));
        assert_eq!(Forwarded::parse(&long), Forwarded::default());
    }
}

mod proxy_headers {
    use super::*;

    fn header(source: &str, destination: &str) -> Header {
        Header {
            source: sock(source),
            destination: sock(destination),
            identity: Some(identity("ns", "web")),
        }
    }

    #[test]
    fn the_bytes_of_the_specification() {
        let mut plain = header("10.0.0.9:258", "10.1.0.1:80");
        plain.identity = None;
        let mut expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        expected.extend([10, 0, 0, 9, 10, 1, 0, 1, 1, 2, 0, 80]);
        assert_eq!(plain.encode(), expected);

        let bytes = header("10.0.0.9:258", "10.1.0.1:80").encode();
        let id = b"spiffe://cluster.local/ns/ns/sa/web";
        assert_eq!(bytes[28..31], [0xd0, 0, 35]);
        assert_eq!(&bytes[31..], id);
        assert_eq!(bytes[14..16], [0, 12 + 3 + 35]);
    }

    #[test]
    fn mixed_families_are_written_as_ipv6() {
        let mixed = header("10.0.0.9:1", "[fd00::1]:80");
        let bytes = mixed.encode();
        assert_eq!(bytes[13], 0x21);
        assert_eq!(Header::decode(&bytes), Ok(Some((mixed, bytes.len()))));
    }

    #[test]
    fn it_may_arrive_in_pieces_and_with_data_behind() {
        let header = header("10.0.0.9:1", "10.1.0.1:80");
        let mut bytes = header.encode();
        let length = bytes.len();
        for end in 0..length {
            assert_eq!(Header::decode(&bytes[..end]), Ok(None), "{end} bytes");
        }
        bytes.extend(b"GET /");
        assert_eq!(Header::decode(&bytes), Ok(Some((header, length))));
    }

    #[test]
    fn what_is_refused() {
        let good = header("10.0.0.9:1", "10.1.0.1:80").encode();
        type Change = fn(&mut Vec<u8>);
        let cases: [(&str, Change, HeaderError); 8] = [
            (
                "text",
                |b| b[..4].copy_from_slice(b"GET "),
                HeaderError::Signature,
            ),
            ("version 1", |b| b[12] = 0x11, HeaderError::Command(0x11)),
            ("LOCAL", |b| b[12] = 0x20, HeaderError::Command(0x20)),
            ("UDP", |b| b[13] = 0x12, HeaderError::Family(0x12)),
            ("huge", |b| b[14] = 0xff, HeaderError::TooLong(0xff32)),
            ("short addresses", |b| b[15] = 11, HeaderError::Short),
            (
                "a TLV that is too long",
                |b| b[30] = 200,
                HeaderError::Short,
            ),
            ("no SPIFFE id", |b| b[31] = b'x', HeaderError::Identity),
        ];
        for (case, change, expected) in cases {
            let mut bytes = good.clone();
            change(&mut bytes);
            assert_eq!(Header::decode(&bytes), Err(expected), "{case}");
        }
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,60}", odd in "[\\[\\]:.0-9a-f%;,=\"\\\\ ]{0,60}") {
        for text in [text, odd] {
            if let Ok(authority) = text.parse::<Authority>() {
                prop_assert_eq!(authority.to_string().parse(), Ok(authority));
            }
            let forwarded = Forwarded::parse(&text);
            prop_assert_eq!(Forwarded::parse(&forwarded.to_string()), forwarded);
            let baggage = Baggage::parse(&text);
            prop_assert_eq!(Baggage::parse(&baggage.to_string()), baggage);
        }
    }

    #[test]
    fn authorities_survive(addr in any::<std::net::SocketAddr>()) {
        let addr = std::net::SocketAddr::new(addr.ip().to_canonical(), addr.port().max(1));
        let authority = Authority::from(addr);
        prop_assert_eq!(authority.to_string().parse(), Ok(authority));
    }

    #[test]
    fn baggage_survives(values in proptest::collection::vec("\\PC{0,12}", 7)) {
        let value = |at: usize| Some(values[at].trim()).filter(|v| !v.is_empty()).map(Into::into);
        let baggage = Baggage {
            cluster: value(0),
            namespace: value(1),
            workload: value(2).map(|name| (WorkloadType::CronJob, name)),
            service_name: value(3),
            service_version: value(4),
            region: value(5),
            zone: value(6),
        };
        let text = baggage.to_string();
        prop_assert!(text.bytes().all(|b| b.is_ascii_graphic()), "{}", text);
        prop_assert_eq!(Baggage::parse(&text), baggage);
    }

    #[test]
    fn proxy_headers_survive(
        source in any::<std::net::SocketAddr>(),
        destination in any::<std::net::SocketAddr>(),
    ) {
        let plain = |addr: std::net::SocketAddr| {
            std::net::SocketAddr::new(addr.ip().to_canonical(), addr.port())
        };
        let header = Header {
            source: plain(source),
            destination: plain(destination),
            identity: Some(identity("ns", "web")),
        };
        let bytes = header.encode();
        prop_assert_eq!(Header::decode(&bytes), Ok(Some((header, bytes.len()))));
    }

    #[test]
    fn no_bytes_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..80),
        behind in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let _ = Header::decode(&bytes);
        let mut started = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0".to_vec();
        started.extend(behind);
        let _ = Header::decode(&started);
    }
}
