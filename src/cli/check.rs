//! `sluice check`: everything that is wrong with the configuration, at once.

use super::{Boot, Failed, complain, say};
use crate::config::{self, Kind};

pub(super) fn run(boot: Boot) -> Result<(), Failed> {
    let (settings, source) = boot.resolve()?;
    let config = config::load(&source)?;
    if config.keys.is_empty() && !settings.listen.ip().is_loopback() {
        return Err(Failed::NotTaken(crate::reload::NotTaken::NoKeys));
    }
    config.warnings.iter().for_each(|warning| complain(&format!("warning: {warning}")));
    let count = |kind| config.upstreams.iter().filter(|upstream| upstream.kind == kind).count();
    say(&format!(
        "ok: {} upstreams ({} vllm, {} openai, {} generic), {} routes, {} keys",
        config.upstreams.len(),
        count(Kind::Vllm),
        count(Kind::OpenAi),
        count(Kind::Generic),
        config.routes.len(),
        config.keys.len(),
    ));
    Ok(())
}
