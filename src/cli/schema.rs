//! `sluice schema`: what a file of the configuration may say, for editors.

use super::{Failed, say};
use crate::config::schema::Document;

/// Which file.
#[derive(clap::Args)]
pub(super) struct Schema {
    /// The file whose JSON Schema is printed. Without it: which there are.
    document: Option<Document>,
}

pub(super) fn run(schema: &Schema) -> Result<(), Failed> {
    match schema.document {
        Some(document) => say(document.schema().trim_end()),
        // An editor takes one schema for each file: all of them in one would serve none.
        None => Document::ALL.into_iter().for_each(|document| {
            let (name, file) = (document.name(), document.file_name());
            say(&format!("sluice schema {name:6} > config/{file}"));
        }),
    }
    Ok(())
}
