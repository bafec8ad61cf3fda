//! Valid and invalid configurations as rows; and the example file compared with the code.

use super::*;
use crate::limits::Quota;

const EXAMPLE: &str = include_str!("../../gateway.example.toml");

/// The shortest valid configuration, without ports; rows add to it.
const BASE: &str = "trust_domain = 'td.example'\ndata_dir = '/d'\n[names]\nenroll = ['join.td.example']\n";
const PORTS: &str = "[listen]\nenroll = '127.0.0.1:1'\nmanage = '127.0.0.1:2'\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/lg/gateway.toml"))
}

#[track_caller]
fn good(text: &str) -> Config {
    parse(text).unwrap()
}

/// An invalid file and its error.
#[track_caller]
fn check(text: &str, want: &str) {
    assert_eq!(parse(text).unwrap_err().to_string(), want, "{text}");
}

/// The base with ports and one more section, and the error without the file's name.
#[track_caller]
fn section(more: &str, want: &str) {
    check(&format!("{BASE}{PORTS}{more}\n"), &format!("/etc/lg/gateway.toml:{want}"));
}

#[test]
fn the_least_configuration_has_all_defaults() {
    let config = good(&format!("{BASE}{PORTS}"));
    assert_eq!(config.name.as_str(), "gateway");
    assert_eq!(config.names.manage, config.names.enroll);
    assert_eq!(config.public.enroll.to_string(), "join.td.example:1");
    assert_eq!(config.public.manage.to_string(), "join.td.example:2");
    assert_eq!(config.public.crl, None);
    assert_eq!(config.store.engine, Engine::Sled);
    assert_eq!(config.store.path, Path::new("/d/store"));
    assert_eq!(config.policy_files, [Path::new("/d/policy/default.cedar")]);
    assert_eq!(config.passphrase_file, Path::new("/d/ca-passphrase"));
    assert_eq!(config.log, Log { format: LogFormat::Human, level: "info".into() });
    assert_eq!(config.limits, Limits::default());
}

#[test]
fn every_value_is_taken() {
    let config = good(&format!(
        "{BASE}{PORTS}[public]\nenroll='[2001:db8::1]:443'\nmanage='m.td.example:444'\ncrl='http://crl.td.example/'\n[store]\n\
         engine='redb'\npath='s'\ncache_mib=7\n[policy]\nfiles=['a.cedar','/b.cedar']\n[ca]\npassphrase_file='/run/p'\n[enroll]\npending_ttl='2h'\n\
         pending_max=5\npending_max_per_prefix=2\n[audit]\nretention='10d'\n[log]\n\
         format='json'\nlevel='gateway=debug,warn'\n[limits]\nconnections=9\nhead_time='1s'\npoll_total='7/s burst 8'\n"
    ));
    assert_eq!(config.public.enroll.to_string(), "[2001:db8::1]:443");
    assert_eq!(config.public.crl.unwrap(), pki::ListsUrl::parse("http://crl.td.example").unwrap());
    assert_eq!(config.store.path, Path::new("/etc/lg/s"), "beside the file");
    assert_eq!((config.store.engine, config.store.cache_bytes), (Engine::Redb, 7 * 1024 * 1024));
    assert_eq!(config.policy_files, [Path::new("/etc/lg/a.cedar"), Path::new("/b.cedar")]);
    assert_eq!(config.passphrase_file, Path::new("/run/p"));
    assert_eq!((config.enroll.pending_max, config.enroll.pending_max_per_prefix), (5, 2));
    assert_eq!(config.enroll.pending_ttl, Duration::from_hours(2));
    assert_eq!(config.audit_retention, Duration::from_hours(240));
    assert_eq!(config.log, Log { format: LogFormat::Json, level: "gateway=debug,warn".into() });
    assert_eq!((config.limits.connections, config.limits.head_time), (9, Duration::from_secs(1)));
    assert_eq!(config.limits.rates.poll.total, Quota::of(7, 8));
}

#[test]
fn without_a_data_dir_everything_lies_beside_the_file() {
    let text = format!("{BASE}{PORTS}").replace("data_dir = '/d'", "");
    let folder = |path: &str| Config::parse(&text, Path::new(path)).unwrap().data_dir;
    assert_eq!(folder("/etc/lg/gateway.toml"), Path::new("/etc/lg"));
    assert_eq!(folder("gateway.toml"), Path::new("."));
}

#[test]
fn one_port_for_both_faces() {
    let config = good(
        "trust_domain='td.example'\ndata_dir='d'\n[listen]\nshared='[::1]:0'\n[names]\nenroll=['j.td.example']\n\
         manage=['m.td.example']\n",
    );
    assert_eq!(config.listen, Listen::Shared("[::1]:0".parse().unwrap()));
    let public = config.public;
    assert_eq!(public.enroll.to_string(), "j.td.example:0");
    assert_eq!(public.manage.to_string(), "m.td.example:0");
}

#[test]
fn a_service_managers_secret_comes_first() {
    let text = format!("{BASE}{PORTS}");
    let config = Config::read(&text, Path::new("c.toml"), Some(Path::new("/run/credentials/x"))).unwrap();
    assert_eq!(config.passphrase_file, Path::new("/run/credentials/x/ca-passphrase"));
}

#[test]
fn what_is_missing_is_named() {
    let missing = |text: &str, want: &str| check(text, &format!("/etc/lg/gateway.toml: {want}"));
    missing(
        "data_dir='d'\n",
        "`trust_domain` is missing; write the name all identities lie under, such as \"kernel.example\"",
    );
    missing(BASE, "`listen` is missing; write `shared`, or both `enroll` and `manage`, under [listen]");
    missing(
        &format!("{BASE}[listen]\nenroll='127.0.0.1:1'\n"),
        "`listen.manage` is missing; write an address and port such as \"0.0.0.0:443\" or \"[::]:443\"",
    );
    missing(
        &format!("trust_domain='td.example'\ndata_dir='d'\n{PORTS}"),
        "`names.enroll` is missing; write a DNS name or an address such as \"join.kernel.example\"",
    );
    missing(
        &format!("{BASE}[listen]\nshared='127.0.0.1:1'\n"),
        "`names.manage` is missing; on a shared port each face needs a DNS name of its own, by which connections are told apart",
    );
    missing(
        &format!("{PORTS}[names]\nenroll=['*.td.example']\n")
            .replace("[listen]", "trust_domain='td.example'\ndata_dir='d'\n[listen]"),
        "`public.enroll` is missing; write a name and port such as \"join.kernel.example:443\"",
    );
    check("  \n", "`/etc/lg/gateway.toml` is empty; start from gateway.example.toml");
}

#[test]
fn wrong_values_are_named_with_line_and_cure() {
    section(
        "[store]\nengine = 'mysql'",
        "9: `store.engine`: `mysql`: unknown store engine `mysql`; choose `sled`, `redb` or `memory`; write \"sled\", \"redb\" or \"memory\"",
    );
    section(
        "[store]\ncache_mib = 0",
        "9: `store.cache_mib`: 0 is out of range; write a whole number from 1 to 1000000000",
    );
    section("[store]\npath = ''", "9: `store.path`: it is empty; write a path");
    section(
        "[audit]\nretention = '0s'",
        "9: `audit.retention`: `0s` is out of range; write a time span such as \"30s\", \"10m\", \"24h\" or \"30d\"",
    );
    section(
        "[audit]\nretention = '101y'",
        "9: `audit.retention`: `101y` is out of range; write a time span such as \"30s\", \"10m\", \"24h\" or \"30d\"",
    );
    section("[log]\nformat = 'xml'", "9: `log.format`: `xml`: no such format; write \"human\" or \"json\"");
    section(
        "[limits]\npoll_total = '5'",
        "9: `limits.poll_total`: `5`: not a rate; write a rate such as \"5/s burst 60\"",
    );
    section(
        "[public]\nenroll = 'join'",
        "9: `public.enroll`: `join`: the port is missing; write a name and port such as \"join.kernel.example:443\"",
    );
    section(
        "[public]\nenroll = '::1:443'",
        "9: `public.enroll`: `::1:443`: an IPv6 address needs brackets; write a name and port such as \"join.kernel.example:443\"",
    );
    section(
        "[public]\nmanage = 'm:99999'",
        "9: `public.manage`: `m:99999`: `99999` is not a port; write a name and port such as \"join.kernel.example:443\"",
    );
    section(
        "[public]\ncrl = 'crl.td.example'",
        "9: `public.crl`: `crl.td.example`: it does not begin with `http://` or `https://`; write the address under which the lists lie, such as \"http://crl.kernel.example\"",
    );
}

#[test]
fn wrong_files_are_named_with_line() {
    section(
        "[lstore]",
        "8: near `[lstore]`: unknown field `lstore`, expected one of `trust_domain`, `name`, `data_dir`, `listen`, `names`, `public`, `store`, `policy`, `ca`, `enroll`, `attest`, `audit`, `log`, `limits`",
    );
    section("[log]\nlevl = 'x'", "9: near `levl`: unknown field `levl`, expected `format` or `level`");
    section("[limits]\nconnections = -1", "9: near `connections`: invalid value: integer `-1`, expected u64");
    section("[log]\nformat = 5", "9: near `format`: invalid type: integer `5`, expected a string");
    section("[log]\nlevel = 'info'\nlevel = 'warn'", "10: near `level`: duplicate key");
}

#[test]
fn faces_that_cannot_be_told_apart() {
    let shared = "trust_domain='td.example'\ndata_dir='d'\n[listen]\nshared='127.0.0.1:1'\n";
    check(
        &format!("{shared}[names]\nenroll=['a.td.example','b.td.example']\nmanage=['m.td.example',\n'b.td.example']\n"),
        "/etc/lg/gateway.toml:8: `names.manage`: it is also a name of the enroll face; on a shared port each face needs a DNS name of its own, by which connections are told apart",
    );
    check(
        &format!("{BASE}{PORTS}shared='127.0.0.1:3'\n"),
        "/etc/lg/gateway.toml:8: `listen.shared`: it cannot stand beside `enroll`, `manage` or `proxy`; keep either one shared port or the separate ones",
    );
    check(
        &format!("{BASE}[listen]\nenroll='127.0.0.1:1'\nmanage='127.0.0.1:1'\n"),
        "/etc/lg/gateway.toml:7: `listen.manage`: it is the same as `enroll`; use `shared` if both faces are to have one port",
    );
    good(&format!("{BASE}[listen]\nenroll='127.0.0.1:0'\nmanage='127.0.0.1:0'\n"));
}

#[test]
fn the_name_of_a_gateway_is_a_name_as_a_machine_has() {
    assert_eq!(good(&format!("name = 'gw-a'\n{BASE}{PORTS}")).name.as_str(), "gw-a");
    let fix = "write a name as a machine's: lower-case letters, digits and inner hyphens, such as \"gw-a\"";
    for (name, what) in [
        ("gw.a", "character 3, `.` (U+002E), is not allowed; use only a-z, 0-9 and hyphens"),
        ("", "the name is empty; give at least one letter or digit"),
    ] {
        let told = format!("/etc/lg/gateway.toml:1: `name`: `{name}`: {what}; {fix}");
        check(&format!("name = '{name}'\n{BASE}{PORTS}"), &told);
    }
}

#[test]
fn where_the_proxy_face_is_said_to_be() {
    let text = |names: &str, public: &str| {
        let base = BASE.replace("[names]\n", &format!("[names]\nproxy = [{names}]\n"));
        format!("{base}{PORTS}proxy = '127.0.0.1:3'\n[public]\nproxy = '{public}'\n")
    };
    for (names, public) in [
        ("'gw.td.example'", "gw.td.example:443"),
        ("'a.td.example', 'gw.td.example'", "GW.td.example:1"),
        // an address is not sent as SNI, so it may be that of a load balancer
        ("'gw.td.example'", "192.0.2.1:443"),
    ] {
        good(&text(names, public));
    }
    for public in ["join.td.example:443", "td.example:443"] {
        let name = public.split(':').next().unwrap();
        check(
            &text("'gw.td.example'", public),
            &format!(
                "/etc/lg/gateway.toml:11: `public.proxy`: `{name}` is no name of the face; use one that stands in `names.proxy`"
            ),
        );
    }
}

#[test]
fn where_streams_move_to_is_a_name_of_a_face_that_takes_them() {
    let separate = |at: &str| {
        let base =
            BASE.replace("[names]\n", "[names]\nmanage = ['m.td.example', '192.0.2.1']\nproxy = ['gw-a.td.example']\n");
        format!("{base}{PORTS}proxy = '127.0.0.1:3'\n[public]\ndial_back = '{at}'\n")
    };
    let shared = |at: &str| {
        format!(
            "trust_domain='td.example'\ndata_dir='d'\n[listen]\nshared='[::1]:1'\n[names]\nenroll=['j.td.example']\n\
             manage=['m.td.example','192.0.2.1']\n[public]\ndial_back = '{at}'\n"
        )
    };
    assert_eq!(good(&format!("{BASE}{PORTS}")).public.dial_back, None);
    for at in ["gw-a.td.example:443", "m.td.example:8444", "192.0.2.1:444"] {
        assert_eq!(good(&separate(at)).public.dial_back.unwrap().to_string(), at);
    }
    good(&shared("m.td.example:443"));
    for bad in [
        separate("join.td.example:443"),
        separate("ssh--edge-7.gw-a.td.example:443"),
        separate("192.0.2.2:443"),
        shared("j.td.example:443"),
        shared("192.0.2.1:443"),
    ] {
        let told = parse(&bad).unwrap_err().to_string();
        assert!(
            told.contains("`public.dial_back`") && told.contains("is no name of the manage or proxy face"),
            "{told}"
        );
    }
}

#[test]
fn a_file_cut_short_is_never_taken() {
    let path = Path::new("gateway.toml");
    let complete = format!("{BASE}{PORTS}[store]\ncache_mib = 128\n");
    for end in 0..complete.len() {
        let kept = complete.get(..end).unwrap();
        match Config::parse_complete(kept, path, None) {
            Err(ConfigError::Truncated { .. } | ConfigError::Missing { .. } | ConfigError::Empty { .. }) => {}
            Err(error) => panic!("after {end} bytes: {error}"),
            // the loss of complete lines goes unnoticed only if they are optional
            Ok(_) => assert!(kept.contains("manage") && kept.ends_with('\n'), "after {end} bytes"),
        }
    }
    assert_eq!(Config::parse_complete(&complete, path, None).unwrap().store.cache_bytes, 128 * 1024 * 1024);
    assert_eq!(
        Config::parse_complete("trust_domain = 'td", path, None).unwrap_err().to_string(),
        "`gateway.toml` ends in the middle of line 1; was it cut short? end the last line with a line break if it is whole"
    );
}

#[test]
fn files_are_loaded_or_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.toml");
    assert_eq!(
        Config::load(&path).unwrap_err().to_string(),
        format!("the configuration `{}` does not exist", path.display())
    );
    let text = format!("{BASE}{PORTS}[store]\npath = 'records'\n");
    files::write_atomic(&path, text.as_bytes(), files::FileAccess::Private, files::Existing::Keep).unwrap();
    assert_eq!(Config::load(&path).unwrap().store.path, dir.path().join("records"));
}

#[test]
fn the_example_loads() {
    let config = good(EXAMPLE);
    assert_eq!(config.limits, Limits::default());
    // a key after `#` has its default value, so uncommenting it changes nothing, except for keys without a default
    let without = ["shared", "proxy_protocol_from", "dial_back", "crl"];
    // a commented section is commented with its keys, up to the next empty line
    let mut section_is_off = false;
    let switched_on = |line: &'static str| {
        section_is_off = !line.is_empty() && (section_is_off || line.starts_with("# ["));
        match line.strip_prefix("# ") {
            Some(key)
                if !section_is_off
                    && key.split_once(" = ").is_some_and(|(key, _)| is_key(key) && !without.contains(&key)) =>
            {
                key
            }
            Some(_) | None => line,
        }
    };
    let all: String = EXAMPLE.lines().map(switched_on).flat_map(|line| [line, "\n"]).collect();
    let mut with_all = good(&all);
    let built = |config: &Config| format!("{:?}", Attestors::from(&config.attest).unwrap());
    assert_eq!(built(&with_all), built(&config));
    // the sections of attestors are compared elsewhere, by the attestors that they build
    with_all.attest.clone_from(&config.attest);
    assert_eq!(with_all, config);
    assert!(all.matches(" = ").count() > 40, "the keys were switched on");
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// The keys of a section, from the error about an unknown one.
fn keys(section: &str) -> Vec<String> {
    let message = toml::from_str::<RawConfig>(&format!("{section}zzz = 1\n")).unwrap_err().message().to_owned();
    let (_, expected) = message.split_once("expected ").unwrap();
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_example_has_a_section_for_every_attestor() {
    for row in crate::attest::ALL {
        let section = format!("[attest.{}]", row.kind);
        assert!(EXAMPLE.lines().any(|line| line.trim_start_matches("# ") == section), "{section}");
    }
}

#[test]
fn attestors_that_cannot_be_built_are_named_with_line() {
    let fix = "gateway.example.toml has the section of each attestor with its keys";
    for (more, says) in [
        ("[attest.tarot]", "there is no attestor `tarot`; there are `"),
        ("[attest.join-token]\nenable = false", "unknown field `enable`, expected `enabled`"),
    ] {
        let error = parse(&format!("{BASE}{PORTS}[log]\nlevel = 'info'\n{more}\n")).unwrap_err().to_string();
        let kind = more.split(['.', ']']).nth(1).unwrap();
        assert!(error.starts_with(&format!("/etc/lg/gateway.toml:10: `attest`: `[attest.{kind}]`: {says}")), "{error}");
        assert!(error.ends_with(fix), "{error}");
    }
    let off = good(&format!("{BASE}{PORTS}[attest.join-token]\nenabled = false\n"));
    assert_eq!(
        format!("{:?}", Attestors::from(&off.attest).unwrap()),
        r#"{"prior-certificate", "ssh-host-key", "tpm"}"#
    );
}

#[test]
fn the_example_has_every_key() {
    let top = keys("");
    assert!(top.len() > 10);
    for key in top.into_iter().filter(|key| key != "attest") {
        let has_section = EXAMPLE.lines().any(|line| line == format!("[{key}]"));
        if !has_section {
            let is_there = ["", "# "].iter().any(|off| EXAMPLE.contains(&format!("\n{off}{key} = ")));
            assert!(is_there, "{key}");
            continue;
        }
        let inside = EXAMPLE.split_once(&format!("\n[{key}]\n")).unwrap().1;
        let inside = inside.split("\n[").next().unwrap();
        let wanted = keys(&format!("[{key}]\n"));
        assert!(!wanted.is_empty());
        for wanted in wanted {
            let shown = inside.contains(&format!("\n{wanted} = ")) || inside.contains(&format!("\n# {wanted} = "));
            assert!(shown, "{key}.{wanted}");
        }
    }
}
