//! The operator's commands, run as an operator runs them: the binary itself, in a folder and an environment of its own.

mod check;
mod explain;
mod init;
mod keys;
mod schema;
mod secrets;
mod simulate;
mod status;

use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::services::process::Process;
use crate::support::gateway::written;
use crate::support::within;

/// How a command ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// The line of standard output that begins with `start`.
    #[track_caller]
    pub(crate) fn line(&self, start: &str) -> &str {
        let line = self.out.lines().find(|line| line.starts_with(start));
        assert!(line.is_some(), "no line {start:?} in:\n{}{}", self.out, self.err);
        line.unwrap()
    }
}

/// Runs `sluice` with these arguments and variables in the folder `dir`, and nothing on standard input.
pub(crate) async fn sluice(dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    fed(dir, arguments, variables, "").await
}

/// The same with `input` on standard input.
pub(crate) async fn fed(
    dir: &Path,
    arguments: &[&str],
    variables: &[(&str, &str)],
    input: &str,
) -> Ended {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let _not_read = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
    let ended = within(child.wait_with_output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: ended.status.code().unwrap(), out: text(ended.stdout), err: text(ended.stderr) }
}

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_command_line_is_2_and_names_what_was_probably_meant() {
    let dir = folder(&[]);
    for (arguments, told) in [
        (&["chekc"][..], "'check'"),
        (&["check", "--onlin"], "'--online'"),
        (&["init", "--confg", "x"], "'--config'"),
        (&["schema", "rout"], "'routes'"),
        (&["keys", "haash"], "'hash'"),
        (&["keys"], "Usage: sluice keys"),
        (&["explain", "POST"], "<PATH>"),
        (&["explain", "PO ST", "/"], "no method of HTTP"),
        (&["explain", "POST", "/", "--modell", "m"], "'--model'"),
    ] {
        let ended = sluice(dir.path(), arguments, &[]).await;
        assert_eq!((ended.code, &*ended.out), (2, ""), "{arguments:?}");
        assert!(ended.err.contains(told), "{arguments:?}: {}", ended.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_takes_nothing_of_the_folder_it_is_started_in() {
    let dir = folder(&[("server.yaml", "no: setting\n"), ("routes.yaml", "routes: [\n")]);
    let any = ["demo", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let demo = Process::start(dir.path(), &any, &[]);
    demo.said("base URL").await;
    assert_eq!(demo.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_has_every_command() {
    let dir = folder(&[]);
    let help = sluice(dir.path(), &["--help"], &[]).await.out;
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: Vec<&str> = names.map(|line| line.split_whitespace().next().unwrap()).collect();
    assert!(names.contains(&"explain"), "{help}");
    for page in ["README.md", "README.ru.md"] {
        let text = written(&Path::new(env!("CARGO_MANIFEST_DIR")).join(page));
        for name in names.iter().filter(|name| **name != "help") {
            assert!(text.contains(&format!("| `sluice {name}")), "{page}: {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_is_78_whichever_command_reads_it() {
    let dir = folder(&[
        ("cut/routes.yaml", "routes: [\n"),
        (
            "wrong/routes.yaml",
            "routes:\n  - {path: /a, methods: [POTS], upstream_url: 'http://h'}\n",
        ),
        ("boot/server.yaml", "max_timeuot: 5s\n"),
        ("empty/keys.yaml", "keys: []\n"),
        ("ca/server.yaml", "ca_file: ca.pem\n"),
    ]);
    for (config, told) in [
        ("cut", "routes.yaml:2:1: this is not YAML"),
        ("wrong", "routes.yaml:2:26: routes[0].methods[0]: this is no method"),
        ("boot", "server.yaml:1:1: max_timeuot: unknown field; did you mean `max_timeout`?"),
        ("empty", "routes.yaml: there is no such file, and no node to forward to; `sluice init`"),
        ("nowhere", "there is no folder `nowhere`"),
        ("ca", "server.yaml:1:10: ca_file: there is no such file"),
    ] {
        let explain = ["explain", "GET", "/", "--config", config];
        for arguments in [&explain[..], &["check", "--config", config, "--effective", "--online"]] {
            let ended = sluice(dir.path(), arguments, &[]).await;
            assert_eq!((ended.code, &*ended.out), (78, ""), "{arguments:?}");
            assert!(ended.err.contains(told), "{arguments:?}: {}", ended.err);
        }
    }
}
