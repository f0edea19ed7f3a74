//! Turns a fault of reading into words: which key, what is wrong, what was probably meant.

use super::de::{DeError, Fault};
use super::layers::env_name;
use super::problem::Problem;
use super::schema::{PROGRAM_KEYS, known_keys, tables_with};
use super::suggest::{from_elsewhere, nearest};
use super::tree::{KeyPath, Node, Origin, Step};

/// The problem behind `error`, placed where `tree` says its key or value came from.
pub(crate) fn explain(error: &DeError, tree: &Node) -> Problem {
    let path = error.path();
    match &error.fault {
        Fault::UnknownKey { key, known } => unknown_key(key, known, &path, tree),
        Fault::UnknownWord { word, known } => {
            let words: Vec<String> = known.iter().map(|word| format!("\"{word}\"")).collect();
            let problem = Problem::new(
                tree.origin_of(&path, false),
                format!(
                    "`{path}` is \"{}\", which is none of {}",
                    shorten(word),
                    words.join(", ")
                ),
            );
            match nearest(word, known.iter().copied()) {
                Some(word) => problem.help(format!("did you mean \"{word}\"?")),
                None => problem,
            }
        }
        Fault::Unfit { found, wanted } => {
            // What stands where a hash should may be the password itself.
            let secret = path.last_key().is_some_and(|key| key.contains("password"));
            let found = if secret { "something else" } else { found };
            let problem = Problem::new(
                tree.origin_of(&path, false),
                format!("`{path}` is {found}, but must be {wanted}"),
            );
            match (found, wanted.as_str(), path.0.last()) {
                ("a table", "an array", Some(Step::Key(key))) => {
                    problem.help(format!("write [[{key}]], with two brackets on each side"))
                }
                _ => problem,
            }
        }
        Fault::Said(sentence) => Problem::new(
            tree.origin_of(&path, false),
            format!("`{path}`: {sentence}"),
        ),
    }
}

fn unknown_key(key: &str, known: &'static [&'static str], path: &KeyPath, tree: &Node) -> Problem {
    let parent = path.parent();
    let top = parent.0.is_empty();
    let place = if top {
        "at the top level".to_owned()
    } else {
        format!("in [{parent}]")
    };
    let origin = tree.origin_of(path, true);
    let problem = Problem::new(
        origin.clone(),
        format!("unknown key `{}` {place}", shorten(key)),
    );
    let siblings = known
        .iter()
        .copied()
        .chain(PROGRAM_KEYS.into_iter().filter(|_| top));
    if let Some(near) = nearest(key, siblings) {
        let near = match origin {
            Origin::Env(_) => env_name(&parent.join(Step::Key(near.to_owned()))),
            _ => near.to_owned(),
        };
        return problem.help(format!("did you mean `{near}`?"));
    }
    if let Some(table) = tables_with(key).first() {
        return problem.help(format!("`{key}` belongs in {table}"));
    }
    if let Some(remedy) = from_elsewhere(key) {
        return problem.help(remedy);
    }
    // A name of another table, or one with its table in front and the wrong separator.
    let anywhere = known_keys().iter().map(String::as_str);
    let names = anywhere
        .clone()
        .filter_map(|path| path.rsplit_once('.').map(|(_, name)| name));
    match (nearest(key, names), nearest(&path.to_string(), anywhere)) {
        (Some(name), _) => problem.help(format!(
            "did you mean `{name}` in {}?",
            tables_with(name).first().map_or("", String::as_str)
        )),
        (None, Some(path)) if matches!(origin, Origin::Env(_)) => problem.help(format!(
            "did you mean `{}`?",
            env_name(&KeyPath::parse(path))
        )),
        (None, Some(path)) => problem.help(format!("did you mean `{path}`?")),
        (None, None) => problem,
    }
}

/// Enough of a word to find it.
fn shorten(word: &str) -> String {
    word.chars().take(60).collect()
}
