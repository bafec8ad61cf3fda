//! What is asked for on the proxy face: the head of a `CONNECT`, and a server name. Whatever is taken can be read in one way
//! only, and names the same service when it is written again.

use gateway::core::face::Face;
use gateway::core::face::FaceNames;
use gateway::edge::{
    framing::{ProxyHead, proxy_head},
    proxy::target,
};
use pki::GatewayName;

use crate::Outcome;

/// Judges one input, as a head, as a target and as a server name.
pub fn check(data: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(data);
    Outcome::any(&[head(data), named(&text), sni(&text)])
}

/// As the face reads it: up to the first empty line.
fn head(data: &[u8]) -> bool {
    let Some(end) = data.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = &data[..end + 4];
    let Ok(ProxyHead::Connect(asked)) = proxy_head(head) else { return false };
    let text = std::str::from_utf8(&head[..end]);
    // Split by anybody's idea of a line.
    let lines: Vec<String> = match text {
        Ok(text) => text.split(['\r', '\n']).filter(|line| !line.is_empty()).map(str::to_owned).collect(),
        Err(_) => head.split(|b| b"\r\n".contains(b)).map(|l| String::from_utf8_lossy(l).into_owned()).collect(),
    };
    assert_eq!(lines[0], format!("CONNECT {asked} HTTP/1.1"));
    let mut hosts = 0;
    for line in lines[1..].iter().filter(|line| !line.is_empty()) {
        assert!(!line.starts_with([' ', '\t']), "a folded line: {line:?}");
        let (name, value) = line.split_once(':').expect("a field without a colon");
        assert_eq!(name.trim(), name, "a blank before the colon");
        match name.to_ascii_lowercase().as_str() {
            "host" => {
                hosts += 1;
                assert!(value.trim_matches([' ', '\t']).eq_ignore_ascii_case(&asked), "another host: {value:?}");
            }
            "transfer-encoding" => panic!("an encoding was taken"),
            "content-length" => assert_eq!(value.trim_matches([' ', '\t']).trim_start_matches('0'), ""),
            _ => {}
        }
    }
    assert_eq!(hosts, 1);
    named(&asked);
    // The same, written anew, is taken for the same.
    let again = format!("CONNECT {asked} HTTP/1.1\r\nHost: {asked}\r\n\r\n");
    assert_eq!(proxy_head(again.as_bytes()), Ok(ProxyHead::Connect(asked)));
    true
}

fn named(text: &str) -> bool {
    let Ok(wanted) = target(text) else { return false };
    let (_, port) = text.rsplit_once(':').expect("it has a port");
    assert!(port.parse::<u16>().is_ok_and(|port| port > 0));
    let again = format!("{}.{}:{port}", wanted.service, wanted.machine);
    assert_eq!(again, text.to_ascii_lowercase(), "a second spelling");
    assert_eq!(target(&again), Ok(wanted.clone()));
    assert!(wire::tunnel::is_service_name(&wanted.service) && pki::Name::parse(&wanted.machine).is_ok());
    // The same service by the other door.
    let raw = names().raw(&format!("{}--{}.proxy.example", wanted.service, wanted.machine)).expect("it is ours");
    assert_eq!((raw.service, raw.machine), (wanted.service, wanted.machine));
    true
}

fn names() -> FaceNames {
    let dns = |name: &str| GatewayName::parse(name).expect("a good name");
    FaceNames {
        enroll: vec![dns("enroll.example"), dns("127.0.0.1")],
        manage: vec![dns("manage.example")],
        proxy: vec![dns("proxy.example"), dns("192.0.2.1")],
    }
}

fn sni(text: &str) -> bool {
    let names = names();
    let face = names.face_of(text);
    let Some(raw) = names.raw(text) else {
        assert!(face != Some(Face::Proxy) || text.eq_ignore_ascii_case("proxy.example"), "{text:?}");
        return face.is_some();
    };
    assert_eq!(face, Some(Face::Proxy), "it leads elsewhere");
    assert_eq!(format!("{}--{}.proxy.example", raw.service, raw.machine), text.to_ascii_lowercase());
    assert!(!raw.service.contains("--") && !raw.service.contains('.') && !raw.machine.contains('.'));
    true
}

/// Good ones, and those that another parser would take.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "CONNECT ssh.edge-7:22 HTTP/1.1\r\nHost: ssh.edge-7:22\r\n\r\n",
        "CONNECT SSH.Edge-7:22 HTTP/1.1\r\nhOST:ssh.edge-7:22 \r\nContent-Length: 0\r\nX: \t\r\n\r\nearly",
        "CONNECT ssh.edge-7:22 HTTP/1.1\r\nHost: ssh.edge-7:22\r\nHost: x.y:1\r\n\r\n",
        "CONNECT ssh.edge-7:22 HTTP/1.1\r\nHost: ssh.edge-7:22\r\n Host: x.y:1\r\n\r\n",
        "CONNECT ssh.edge-7:22 HTTP/1.1\r\nHost: ssh.edge-7:22\r\nTransfer-Encoding: chunked\r\n\r\n",
        "CONNECT [::1]:22 HTTP/1.1\r\nHost: [::1]:22\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "ssh.edge-7:22",
        "SSH.edge-7:00022",
        "127.0.0.1:22",
        "ssh--edge-7.proxy.example",
        "SSH--a--b.Proxy.Example",
        "a---b.proxy.example",
        "--x.proxy.example",
        "manage.example",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
