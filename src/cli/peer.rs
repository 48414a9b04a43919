//! `rookery peer`: which other servers this one talks to, said on its own machine. Works beside a running server.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;

use super::{machine_user, prepare};
use crate::api::admin::peers::{self, Decision, shown};
use crate::federation::roster::{self, Undecided};
use crate::federation::{KnownPeer, Policy, replica};
use crate::lexicon::admin::defs::Peer;
use crate::server::{Database, open_database_beside};
use crate::storage::Storage;
use crate::types::{Clock, Did, StreamId};

/// Servers read at once.
const PAGE: i64 = 100;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Every server that this one was ever in touch with, or decided about.
    List,
    /// One server, with every key that it has shown.
    Show { server: String },
    /// Talk to a server where FEDERATION is `allowlist`; where it is `open`, take it off probation.
    Allow { server: String },
    /// Take nothing from a server and send it nothing.
    Block { server: String },
    /// Undo allow and block: what FEDERATION says holds again.
    Usual { server: String },
    /// Forget a server, its keys included, if no conversation here has to do with it.
    Forget { server: String },
    /// Follow one stream, or every stream of a server, again at once, and send that server all deliveries that wait for
    /// it.
    Resume {
        /// A stream's id, or a server's host.
        what: String,
    },
    /// Go on with a stream that is frozen because its home went back in time: give up the entries that the home lost,
    /// and keep them as evidence. Ask the home's operator first whether the database was restored.
    AcceptRewind {
        /// The stream's id.
        stream: String,
    },
    /// Let a key count that no earlier key endorsed.
    AcceptKey {
        server: String,
        /// Its id, such as `#peer-loyywn2q`; `rookery peer show` lists them.
        key: String,
    },
    /// Never let a key count.
    RefuseKey { server: String, key: String },
}

pub(super) async fn run(file: Option<&Path>, command: Command) -> anyhow::Result<ExitCode> {
    let config = prepare(file)?;
    let Database { storage, cluster } = open_database_beside(&config).await?;
    let outcome = obey(&storage, command, !config.is_production()).await;
    storage.close();
    if let Some(cluster) = cluster {
        cluster.stop().await?;
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn obey(storage: &Storage, command: Command, development: bool) -> anyhow::Result<()> {
    let by = machine_user();
    let carry_out = async |server: &str, decision: Decision<'_>| {
        let now = Clock::System.now();
        told(server, peers::decide(storage, &by, &name(server)?, &decision, now, development).await)
    };
    let decide = async |server: String, policy: Policy| {
        carry_out(&server, Decision::Policy(policy)).await?;
        say(&line(&shown(told(&server, roster::get(storage, &name(&server)?).await)?)));
        anyhow::Ok(())
    };
    let decide_key = async |server: String, key: &str, accept: bool| {
        let key = if key.starts_with('#') { key.to_owned() } else { format!("#{key}") };
        let decision = if accept { Decision::AcceptKey(&key) } else { Decision::RefuseKey(&key) };
        carry_out(&server, decision).await?;
        show(told(&server, roster::get(storage, &name(&server)?).await)?);
        anyhow::Ok(())
    };
    match command {
        Command::List => list(storage).await?,
        Command::Show { server } => show(told(&server, roster::get(storage, &name(&server)?).await)?),
        Command::Allow { server } => decide(server, Policy::Allowed).await?,
        Command::Block { server } => decide(server, Policy::Blocked).await?,
        Command::Usual { server } => decide(server, Policy::Usual).await?,
        Command::AcceptKey { server, key } => decide_key(server, &key, true).await?,
        Command::RefuseKey { server, key } => decide_key(server, &key, false).await?,
        Command::AcceptRewind { stream } => {
            let stream = StreamId::parse(&stream).context("that is not the name of a stream")?;
            let given_up = replica::accept_rewind(storage, &stream, Clock::System.now()).await?;
            let (entries, base) = (given_up.entries, given_up.base.0);
            say(&format!(
                "{entries} entries beyond {base} are given up and kept as evidence; the stream is followed anew."
            ));
        }
        Command::Resume { what } => resume(storage, &what).await?,
        Command::Forget { server } => {
            carry_out(&server, Decision::Forget).await?;
            say(&format!("{server} is forgotten"));
        }
    }
    Ok(())
}

async fn resume(storage: &Storage, what: &str) -> anyhow::Result<()> {
    let streams = match StreamId::parse(what) {
        Ok(stream) => replica::resume_stream(storage, &stream, Clock::System.now()).await?,
        Err(_) => replica::resume_peer(storage, &name(what)?, Clock::System.now()).await?,
    };
    for stream in &streams {
        say(stream);
    }
    say(&format!("{} streams are followed anew within seconds.", streams.len()));
    Ok(())
}

async fn list(storage: &Storage) -> anyhow::Result<()> {
    let mut after = 0;
    loop {
        let page = roster::list(storage, after, PAGE).await?;
        for peer in page.peers {
            say(&line(&shown(peer)));
        }
        match page.cursor {
            Some(cursor) => after = cursor,
            None => return Ok(()),
        }
    }
}

fn show(peer: KnownPeer) {
    let peer = shown(peer);
    say(&line(&peer));
    for key in &peer.keys {
        say(&format!("  {}  {}  {}  {}", key.id, key.r#use, key.state, key.public_key_multibase));
    }
}

fn line(peer: &Peer) -> String {
    let Peer { server, domain, policy, first_seen_at, last_seen_at, held_until, keys } = peer;
    let mut parts = vec![format!("{server}  {policy}  seen {first_seen_at} to {last_seen_at}")];
    parts.push(format!("counted as {domain}, keys: {}", keys.len()));
    parts.extend(held_until.as_ref().map(|until| format!("held until {until}: `rookery peer show {server}`")));
    parts.join(", ")
}

/// A server by its name, or by its host alone.
pub(super) fn name(server: &str) -> anyhow::Result<Did> {
    let text =
        if server.starts_with("did:") { server.to_owned() } else { format!("did:web:{}", server.replace(':', "%3A")) };
    Did::parse(&text)
        .ok()
        .filter(|did| did.method() == "web")
        .with_context(|| format!("`{server}` is not a server. Fix: write its host, such as chat.example.com"))
}

fn told<T>(server: &str, outcome: Result<T, Undecided>) -> anyhow::Result<T> {
    let fix = match &outcome {
        Err(Undecided::NotFound) => ". `rookery peer list` shows those that are known",
        Err(Undecided::NoSuchKey) => ". `rookery peer show` lists its keys",
        _ => "",
    };
    outcome.map_err(|undecided| match undecided {
        Undecided::Storage(error) => error.into(),
        why => anyhow::anyhow!("{server}: {why}{fix}"),
    })
}

#[expect(clippy::print_stdout, reason = "the command's answer")]
fn say(line: &str) {
    println!("{line}");
}
