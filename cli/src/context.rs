//! Contexts: nodes under names, in a file of the user.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cli::ContextCommand;
use crate::failure::Failure;
use crate::output::{Output, table};

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Admin API, HOST:PORT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) admin: Option<String>,
    /// Address of its shard 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) addr: Option<SocketAddr>,
    /// Control socket of its memif port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memif: Option<PathBuf>,
}

/// The file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    /// The one that is used when none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default, rename = "context")]
    contexts: BTreeMap<String, Context>,
}

/// All contexts of the user.
#[derive(Debug)]
pub(crate) struct Contexts {
    file: PathBuf,
    content: Content,
}

impl Contexts {
    /// Reads the user's file; without one there are none.
    pub(crate) fn load() -> Result<Contexts, Failure> {
        Contexts::load_from(file())
    }

    fn load_from(file: PathBuf) -> Result<Contexts, Failure> {
        let content = match std::fs::read_to_string(&file) {
            Ok(text) => toml::from_str(&text).map_err(|error| {
                let at = error.span().map_or(0, |span| span.start);
                let line = text[..at.min(text.len())].matches('\n').count() + 1;
                format!("{}:{line}: {}", file.display(), error.message().replace('\n', ", "))
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Content::default(),
            Err(error) => return Err(format!("{}: {error}", file.display()).into()),
        };
        Ok(Contexts { file, content })
    }

    /// Writes the file as a whole: it is the old one or the new one, never half of one.
    fn save(&self) -> Result<(), Failure> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", self.file.display());
        let text = toml::to_string(&self.content).map_err(|error| failed(&error))?;
        let new = self.file.with_extension(format!("toml.{}", std::process::id()));
        std::fs::create_dir_all(self.file.parent().unwrap_or(Path::new(".")))
            .and_then(|()| std::fs::write(&new, text))
            .and_then(|()| std::fs::rename(&new, &self.file))
            .map_err(|error| failed(&error).into())
    }

    /// The context of a name.
    pub(crate) fn get(&self, name: &str) -> Result<&Context, Failure> {
        self.content.contexts.get(name).ok_or_else(|| {
            let known = self.content.contexts.keys().cloned().collect::<Vec<_>>().join(", ");
            let known = if known.is_empty() { "none".into() } else { known };
            Failure::Failed(format!(
                "no context {name} in {} (there: {known}); add it with `mstream context add`",
                self.file.display()
            ))
        })
    }

    /// The context that is used when none is named.
    pub(crate) fn current(&self) -> Result<Option<(&str, &Context)>, Failure> {
        match &self.content.current {
            Some(name) => Ok(Some((name, self.get(name)?))),
            None => Ok(None),
        }
    }
}

/// $XDG_CONFIG_HOME/mstream/contexts.toml, or the same under ~/.config.
fn file() -> PathBuf {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let config = absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".config")))
        .unwrap_or_else(|| PathBuf::from(".config"));
    config.join("mstream/contexts.toml")
}

/// A context as it is listed.
#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    current: bool,
    admin: Option<&'a str>,
    addr: Option<SocketAddr>,
    memif: Option<&'a Path>,
}

/// Does what `mstream context` was asked for.
pub(crate) fn run(command: &ContextCommand, json: bool) -> Result<(), Failure> {
    let mut contexts = Contexts::load()?;
    let mut output = Output::new(json);
    let content = &mut contexts.content;
    let done = match command {
        ContextCommand::List => return list(content, &mut output),
        ContextCommand::Add { name, admin, addr, memif } => {
            let context = Context { admin: admin.clone(), addr: *addr, memif: memif.clone() };
            let replaced = content.contexts.insert(name.clone(), context).is_some();
            let current = content.current.get_or_insert_with(|| name.clone()) == name;
            let done = if replaced { "replaced" } else { "added" };
            format!("context {name} {done}{}", if current { "; it is the current one" } else { "" })
        }
        ContextCommand::Use { name } => {
            contexts.get(name)?;
            contexts.content.current = Some(name.clone());
            format!("context {name} is the current one")
        }
        ContextCommand::Remove { name } => {
            contexts.get(name)?;
            let content = &mut contexts.content;
            content.contexts.remove(name);
            content.current.take_if(|current| current == name);
            format!("context {name} removed")
        }
    };
    contexts.save()?;
    if json { Ok(()) } else { output.line(&done) }
}

fn list(content: &Content, output: &mut Output) -> Result<(), Failure> {
    let listed = content.contexts.iter().map(|(name, context)| Listed {
        name,
        current: content.current.as_ref() == Some(name),
        admin: context.admin.as_deref(),
        addr: context.addr,
        memif: context.memif.as_deref(),
    });
    if output.json() {
        return listed.into_iter().try_for_each(|context| output.record(&context));
    }
    let mut rows = table(&["", "NAME", "ADMIN", "ADDR", "MEMIF"]);
    for context in listed {
        rows.add_row([
            if context.current { "*" } else { "" }.to_owned(),
            context.name.to_owned(),
            context.admin.unwrap_or_default().to_owned(),
            context.addr.map(|addr| addr.to_string()).unwrap_or_default(),
            context.memif.map(|path| path.display().to_string()).unwrap_or_default(),
        ]);
    }
    output.line(&rows.trim_fmt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_as_it_is_written() {
        let context = Context {
            admin: Some("host:1".into()),
            addr: Some("10.0.0.1:7500".parse().expect("an address")),
            memif: None,
        };
        let content = Content {
            current: Some("a".into()),
            contexts: [("a".into(), context), ("b c".into(), Context::default())].into(),
        };
        let text = toml::to_string(&content).expect("plain values");
        assert_eq!(toml::from_str::<Content>(&text).expect("its own text"), content, "{text}");
        assert!(toml::from_str::<Content>("[context.a]\nadress = \"\"").is_err());
    }
}
