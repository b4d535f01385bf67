//! Boot settings: who wins, what is refused, what is documented.

use std::time::Duration;

use super::*;

fn resolve(
    args: &SettingsArgs,
    variables: &[(&str, &str)],
    file: Option<&str>,
) -> Result<Settings, Problems> {
    let dir = tempfile::tempdir().unwrap();
    if let Some(text) = file {
        std::fs::write(dir.path().join("server.yaml"), text).unwrap();
    }
    Settings::resolve(args, &env(variables), dir.path())
}

fn with(variables: &[(&str, &str)], file: Option<&str>) -> Settings {
    resolve(&SettingsArgs::default(), variables, file).unwrap()
}

#[test]
fn defaults_hold_without_a_word() {
    for file in [None, Some(""), Some("# all defaults\n")] {
        let found = with(&[], file);
        assert_eq!(found.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(found.admin_listen.to_string(), "127.0.0.1:9464");
        assert_eq!((found.threads, found.max_body_bytes), (0, 104_857_600));
        assert_eq!(found.max_timeout, Duration::from_secs(3_600));
        assert_eq!(found.cors_allow_origins, CorsOrigins::Off);
        assert_eq!((found.access_log, found.h2c, found.ca_file.clone()), (true, false, None));
        assert_eq!(found.sse_keepalive, Some(Duration::from_secs(15)));
        assert_eq!(found.invalid_key_status, http::StatusCode::UNAUTHORIZED);
    }
}

#[test]
fn flag_beats_variable_beats_legacy_beats_file() {
    let file = Some("max_body_bytes: 1\naccess_log: off\nh2c: true\n");
    assert_eq!(with(&[], file).max_body_bytes, 1);
    assert!(!with(&[], file).access_log && with(&[], file).h2c);
    let legacy = [("MAX_BODY_BYTES", "2")];
    assert_eq!(with(&legacy, file).max_body_bytes, 2);
    let both = [("MAX_BODY_BYTES", "2"), ("SLUICE_MAX_BODY_BYTES", "3")];
    assert_eq!(with(&both, file).max_body_bytes, 3);
    let args = SettingsArgs { max_body_bytes: Some("4".to_owned()), ..SettingsArgs::default() };
    assert_eq!(resolve(&args, &both, file).unwrap().max_body_bytes, 4);
}

#[test]
fn host_and_port_each_replace_their_half() {
    let file = Some("listen: 10.0.0.1:7000\n");
    for (variables, expected) in [
        (&[("HOST", "0.0.0.0")][..], "0.0.0.0:7000"),
        (&[("PORT", "12000")], "10.0.0.1:12000"),
        (&[("HOST", "::"), ("PORT", "1")], "[::]:1"),
        (&[("HOST", "localhost")], "127.0.0.1:7000"),
        (&[("PORT", "1"), ("SLUICE_LISTEN", "127.0.0.1:2")], "127.0.0.1:2"),
    ] {
        assert_eq!(with(variables, file).listen.to_string(), expected);
    }
}

#[test]
fn a_keepalive_of_zero_is_none() {
    for (file, expected) in [
        ("sse_keepalive: 0\n", None),
        ("sse_keepalive: 0s\n", None),
        ("sse_keepalive: '0ms'\n", None),
        ("sse_keepalive: 500ms\n", Some(Duration::from_millis(500))),
    ] {
        assert_eq!(with(&[], Some(file)).sse_keepalive, expected, "{file}");
    }
    assert_eq!(with(&[("SLUICE_SSE_KEEPALIVE", "0")], None).sse_keepalive, None);
}

#[test]
fn python_names_of_levels_and_lists_of_origins_are_understood() {
    use log::LevelFilter::{Error, Info, Trace, Warn};
    for (text, level) in
        [("CRITICAL", Error), ("warning", Warn), ("INFO", Info), ("NotSet", Trace), ("warn", Warn)]
    {
        assert_eq!(with(&[("LOG_LEVEL", text)], None).log_level, level);
    }
    let origins = |text| with(&[("CORS_ALLOW_ORIGINS", text)], None).cors_allow_origins;
    let two = CorsOrigins::List(vec![
        http::HeaderValue::from_static("https://a.example"),
        http::HeaderValue::from_static("http://localhost:3000"),
    ]);
    assert_eq!(origins("https://A.example:443, http://localhost:3000"), two);
    assert_eq!(origins("[\"https://a.example\", \"http://localhost:3000\"]"), two);
    assert_eq!(origins("*"), CorsOrigins::Any);
    assert_eq!(origins("[]"), CorsOrigins::Off);
    let file = "cors_allow_origins: [https://a.example, 'http://localhost:3000']\n";
    assert_eq!(with(&[], Some(file)).cors_allow_origins, two);
}

#[test]
fn bad_values_are_told_at_once_with_their_source() {
    let args = SettingsArgs { threads: Some("many".to_owned()), ..SettingsArgs::default() };
    let variables = [("SLUICE_MAX_TIMEOUT", "5"), ("PORT", "http"), ("LOG_LEVEL", "loud")];
    let file = "\nmax_timeuot: 1s\ndrain_delay: [a: b]\naccess_log: maybe\nca_file: ca.pem\n";
    assert_lines(
        &lines(resolve(&args, &variables, Some(file)).unwrap_err()),
        &[
            "server.yaml:2:1: max_timeuot: unknown field; did you mean `max_timeout`?",
            "server.yaml:3:15: drain_delay[0]: this must be a text",
            "server.yaml:4:13: access_log: this must be `on` or `off`",
            "environment: PORT: this is no address to listen on; write it as 127.0.0.1:8080",
            "environment: SLUICE_MAX_TIMEOUT: this is no duration; write a number and a unit: `500ms`, `5s`, `1m`",
            "environment: LOG_LEVEL: this must be `error` or `warn` or `info` or `debug` or `trace`",
            "command line: --threads: this must be a whole number",
        ],
    );
    for (name, value) in [
        ("INVALID_KEY_STATUS", "404"),
        ("MAX_BODY_BYTES", "0"),
        ("MAX_BODY_BYTES", "2147483648"),
        ("CORS_ALLOW_ORIGINS", "https://a/"),
        ("CORS_ALLOW_ORIGINS", "*,https://a"),
        ("CORS_ALLOW_ORIGINS", "[7]"),
        ("H2C", "maybe"),
        ("SSE_KEEPALIVE", "5"),
        ("SSE_KEEPALIVE", "25h"),
        ("LEDGER", "/"),
        ("LEDGER", "/no/folder/usage.jsonl"),
        ("LISTEN", "8080"),
    ] {
        let name = format!("SLUICE_{name}");
        let found = resolve(&SettingsArgs::default(), &[(&name, value)], None);
        assert!(found.is_err(), "{name}={value}");
    }
}

#[test]
fn a_ca_file_of_the_file_is_relative_to_it_and_effective_tells_the_source() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("server.yaml"), "ca_file: ca.pem\n").unwrap();
    let args = SettingsArgs::default();
    let authority = rcgen::generate_simple_self_signed(Vec::new()).unwrap().cert.pem();
    for (text, told) in [
        (None, "there is no such file"),
        (Some(""), "this must be a PEM file of certificates, and of nothing else"),
        (Some(&*authority.replace("MII", "")), "this must be a PEM file"),
    ] {
        if let Some(text) = text {
            std::fs::write(dir.path().join("ca.pem"), text).unwrap();
        }
        let problems = Settings::resolve(&args, &nothing(), dir.path()).unwrap_err();
        assert!(problems.to_string().contains(told), "{problems}");
        assert!(problems.to_string().starts_with("server.yaml:1:10: ca_file"), "{problems}");
    }
    std::fs::write(dir.path().join("ca.pem"), authority).unwrap();
    let found = Settings::resolve(&args, &nothing(), dir.path()).unwrap();
    assert_eq!(found.ca_file, Some(dir.path().join("ca.pem")));
    let all = effective_settings(&args, &env(&[("PORT", "1")]), dir.path()).unwrap();
    let names: Vec<&str> = all.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(names, SETTINGS.iter().map(|setting| setting.name).collect::<Vec<_>>());
    assert_eq!((&*all[0].value, &*all[0].source), ("127.0.0.1:1", "environment PORT"));
    assert_eq!(all[1].source, "default");
    assert_eq!(all.last().unwrap().source, "server.yaml:1:10");
}

#[test]
fn flags_have_the_same_names_and_the_table_holds_every_setting() {
    use clap::Parser;
    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        settings: SettingsArgs,
    }
    let args = Command::parse_from(["sluice", "--max-timeout", "5s", "--h2c"]).settings;
    let found = resolve(&args, &[], None).unwrap();
    assert_eq!((found.max_timeout, found.h2c), (Duration::from_secs(5), true));
    let command = <Command as clap::CommandFactory>::command();
    let table = settings_table();
    for setting in SETTINGS {
        let flag = setting.flag();
        assert!(command.get_arguments().any(|arg| arg.get_long() == flag.strip_prefix("--")));
        assert!(table.contains(&format!(
            "| `{}` | `{flag}` | `{}`",
            setting.name,
            setting.variable()
        )));
    }
    assert_eq!(table.lines().count(), SETTINGS.len() + 2);
}

#[test]
fn limits_in_redis_need_an_address_that_nobody_is_shown() {
    let found = with(&[("RATE_LIMIT_STORE", "redis"), ("REDIS_URL", "redis://:pass@r:7/2")], None);
    assert_eq!(found.rate_limit_store, StoreKind::Redis);
    assert_eq!(found.redis_url.as_ref().unwrap().secret(), "redis://:pass@r:7/2");
    assert_eq!((found.on_store_error, found.replicas.get()), (OnStoreError::Local, 1));
    assert!(!format!("{found:?}").contains("pass"));
    let lines = |variables: &[(&str, &str)], file| {
        lines(resolve(&SettingsArgs::default(), variables, file).unwrap_err())
    };
    assert_lines(
        &lines(&[("RATE_LIMIT_STORE", "redis")], None),
        &["environment: RATE_LIMIT_STORE: this needs `redis_url` as well; \
           set REDIS_URL, or `redis_url: redis://host:6379`"],
    );
    let file = Some("rate_limit_store: redis\nredis_url: 'redis:/hunter'\nreplicas: 0\n");
    let found = lines(&[("SLUICE_ON_STORE_ERROR", "locale")], file);
    for (line, told) in found.iter().zip([
        "server.yaml:2:12: redis_url: this is no address of a Redis;",
        "server.yaml:3:11: replicas: this must be 1 to 10000",
        "environment: SLUICE_ON_STORE_ERROR: this must be `local` or `allow` or `deny`; did you mean `local`?",
    ]) {
        assert!(line.starts_with(told) && !line.contains("hunter"), "{line}");
    }
    for url in
        ["http://hunter", "rediss://hunter/x", "unix:///hunter", "redis://:a/hunter@r", "hunter:1"]
    {
        let found = lines(&[("REDIS_URL", url)], None);
        assert!(found.len() == 1 && !found[0].contains("hunter"), "{found:?}");
    }
}

#[test]
fn the_metrics_key_is_told_to_nobody() {
    let found = with(&[("SLUICE_METRICS_KEY", "hunter2")], Some("metrics_key: other\n"));
    assert_eq!(found.metrics_key.as_ref().unwrap().secret(), "hunter2");
    assert!(!format!("{found:?}").contains("hunter"));
    assert_eq!(with(&[], None).metrics_key, None);
    let file = Some("metrics_key: hunter 2\n");
    let problems = resolve(&SettingsArgs::default(), &[], file).unwrap_err();
    assert!(!problems.for_terminal().contains("hunter"), "{problems}");
    assert_lines(
        &lines(problems),
        &[
            "server.yaml:1:14: metrics_key: a key is made of visible ASCII characters without spaces",
        ],
    );
}

#[test]
fn effective_tells_no_password_of_redis() {
    let dir = tempfile::tempdir().unwrap();
    let variables = [("REDIS_URL", "redis://:pass@r")];
    let rows = effective_settings(&SettingsArgs::default(), &env(&variables), dir.path()).unwrap();
    let row = rows.iter().find(|row| row.path == "redis_url").unwrap();
    assert_eq!((row.value.as_str(), row.source.as_str()), ("****", "environment REDIS_URL"));
}
