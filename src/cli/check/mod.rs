//! `sluice check`: everything that is wrong with the configuration, at once; on request what holds, and what nodes say.

mod online;

use super::loaded::Loaded;
use super::{Boot, Failed, runtime, say};
use crate::config::{self, Config, Effective, Kind, Places};

/// What is checked.
#[derive(clap::Args)]
pub(super) struct Check {
    /// Ask each node, too: does it answer, take our key, serve the models? Exit code 1 if one fails.
    #[arg(long)]
    online: bool,
    /// Print every value that holds, and who said so. Keys are masked.
    #[arg(long)]
    effective: bool,
    #[command(flatten)]
    boot: Boot,
}

pub(super) fn run(check: &Check) -> Result<(), Failed> {
    let loaded = Loaded::of(&check.boot)?;
    if check.effective {
        let Loaded { source, config, .. } = &loaded;
        let settings = &check.boot.settings;
        let mut values = config::effective_settings(settings, &source.environment, &source.dir)?;
        values.extend(config::effective(config, &Places::read(source)));
        say(&table(&values));
    }
    say(&summary(&loaded.config));
    if check.online {
        runtime(0)?.block_on(online::ask_all(&loaded))?;
    }
    Ok(())
}

fn summary(config: &Config) -> String {
    let count = |kind| config.upstreams.iter().filter(|upstream| upstream.kind == kind).count();
    format!(
        "ok: {} upstreams ({} vllm, {} openai, {} ollama, {} generic), {} routes, {} keys",
        config.upstreams.len(),
        count(Kind::Vllm),
        count(Kind::OpenAi),
        count(Kind::Ollama),
        count(Kind::Generic),
        config.routes.len(),
        config.keys.len(),
    )
}

/// Widest column that the next one is aligned to, in characters: one long value must not push all sources away.
const COLUMN_MAX: usize = 48;

/// Path, value and source, in columns.
fn table(values: &[Effective]) -> String {
    let widest = |text: fn(&Effective) -> &str| {
        let widths = values.iter().map(|one| text(one).chars().count());
        widths.filter(|width| *width <= COLUMN_MAX).max().unwrap_or_default()
    };
    let (paths, texts) = (widest(|one| &one.path), widest(|one| &one.value));
    let line = |one: &Effective| {
        // A value may hold control characters, and a terminal obeys them.
        let value: String = one.value.chars().filter(|c| !c.is_control()).collect();
        format!("{:paths$}  {value:texts$}  {}\n", one.path, one.source)
    };
    values.iter().map(line).collect()
}
