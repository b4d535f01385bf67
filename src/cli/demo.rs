//! `sluice demo`: simulated nodes, the gateway and a fresh key, all in this process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::serve::{Signals, access_log};
use super::{Failed, bind, keys, logging, runtime, say};
use crate::config::{Environment, Source};
use crate::config::{Settings, SettingsArgs};
use crate::server::{Server, Start};
use crate::sim::{self, Simulator};
use crate::upstream::resolve::SystemResolver;

/// Where the demo listens, and how fast its nodes are.
#[derive(clap::Args)]
pub(super) struct Demo {
    /// Address of the gateway.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Address for operators: metrics, the state of nodes.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9464")]
    admin_listen: SocketAddr,
    /// How many nodes there are.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    nodes: u8,
    /// Time to the first token.
    #[arg(long, value_name = "TIME", default_value = "80ms", value_parser = humantime::parse_duration)]
    first_token: Duration,
    /// Time between tokens.
    #[arg(long, value_name = "TIME", default_value = "25ms", value_parser = humantime::parse_duration)]
    token_delay: Duration,
}

/// Whatever lies in the current folder has no part in the demo.
const NO_FOLDER: &str = "/nonexistent";

pub(super) fn run(demo: Demo) -> Result<(), Failed> {
    let nothing = Environment::from_iter(std::iter::empty::<(String, String)>());
    let mut settings = Settings::resolve(&SettingsArgs::default(), &nothing, NO_FOLDER.as_ref())?;
    settings.listen = demo.listen;
    settings.admin_listen = demo.admin_listen;
    settings.sessions = true;
    logging::start(&settings);
    runtime(0)?.block_on(demonstrate(demo, settings))
}

async fn demonstrate(demo: Demo, settings: Settings) -> Result<(), Failed> {
    let failed = |error: std::io::Error| Failed::Runtime(error.to_string());
    let mut signals = Signals::new().map_err(failed)?;
    let (public, admin) = (bind(settings.listen)?, bind(settings.admin_listen)?);
    let (base, operators) =
        (public.local_addr().map_err(failed)?, admin.local_addr().map_err(failed)?);
    let node = sim::Settings {
        first_token: demo.first_token,
        token_delay: demo.token_delay,
        ..sim::Settings::default()
    };
    let model = node.models.first().map(ToString::to_string).unwrap_or_default();
    let mut nodes = Vec::new();
    for _ in 0..demo.nodes {
        let socket = bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        nodes.push(Simulator::start(socket, node.clone()).await.map_err(failed)?);
    }
    let urls: Vec<String> = nodes.iter().map(|node| format!("http://{}", node.addr())).collect();
    let key = keys::fresh()?;
    let source = Source {
        dir: PathBuf::from(NO_FOLDER),
        environment: Environment::from_iter([("PROXY_SECRET_KEY".to_owned(), key.clone())]),
        backend: Some(urls.join(",")),
    };
    let server = Server::start(Start {
        access_log: access_log(&settings, &Environment::of_process())?,
        resolver: Arc::new(SystemResolver),
        settings,
        source,
        public,
        admin,
    })?;
    say(&banner((base, operators), &urls, &key, &model));
    signals.next_stop().await;
    server.stop(Duration::ZERO, LAST_ANSWERS).await;
    for node in nodes {
        node.kill().await;
    }
    Ok(())
}

/// How long Ctrl-C waits for answers that are under way.
const LAST_ANSWERS: Duration = Duration::from_millis(200);

/// This command as a shell takes it: by its name where the shell found it so, else by its whole path.
fn command() -> String {
    let typed = std::env::args().next().unwrap_or_default();
    let path = match typed.contains('/') {
        true => std::env::current_exe().map_or(typed, |path| path.display().to_string()),
        false => typed,
    };
    let plain = |c: char| c.is_alphanumeric() || "/._-+".contains(c);
    match path.chars().all(plain) {
        true => path,
        false => format!("'{}'", path.replace('\'', "'\\''")),
    }
}

/// What a newcomer needs, each line to be copied as it is.
fn banner(
    (base, operators): (SocketAddr, SocketAddr),
    nodes: &[String],
    key: &str,
    model: &str,
) -> String {
    let nodes: String =
        nodes.iter().map(|node| format!("  node       {node} (simulated vLLM)\n")).collect();
    format!(
        "
sluice {version}: a gateway and simulated nodes. Ctrl-C ends them all.

  base URL   http://{base}/v1
  key        {key}
  model      {model}
  documents  http://{base}/docs
  status     http://{operators}/
  metrics    http://{operators}/metrics
{nodes}
Try:

  curl http://{base}/v1/chat/completions -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' -d '{{\"model\": \"{model}\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'

and with \"stream\": true:

  curl -N http://{base}/v1/chat/completions -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' -d '{{\"model\": \"{model}\", \"stream\": true, \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'

or talk to it:

  {command} chat --url http://{base}/v1 --api-key {key}
",
        command = command(),
        version = env!("CARGO_PKG_VERSION"),
    )
}
