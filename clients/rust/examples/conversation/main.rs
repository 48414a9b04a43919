//! Two accounts talk through a development server: `make run`, then in another terminal
//! `cargo run -p rookery-client --example conversation`.
//!
//! Each account is a did:web of this machine, whose document the example serves itself, so no PDS is needed. With
//! `PDS_URL`, `ALICE` and `BOB` (`handle:password` each) the accounts are those of a PDS.

mod did_host;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use rookery_client::protocol::identity::{Curve, SigningKey};
use rookery_client::protocol::types::Did;
use rookery_client::{Account, Device, EventCursor, Feed, Heard, OwnKey, Pds, Received, Service};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> Outcome<()> {
    let url = std::env::var("ROOKERY_URL").unwrap_or_else(|_| "http://localhost:3000".to_owned());
    let service = Arc::new(Service::new(&url, service_did(&url)?)?);
    match std::env::var("PDS_URL") {
        Ok(pds) => talk(at_pds(&pds, "ALICE").await?, at_pds(&pds, "BOB").await?, service).await,
        Err(_) => talk(account().await?, account().await?, service).await,
    }
}

async fn talk<A: Account>(alice: Arc<A>, bob: Arc<A>, service: Arc<Service>) -> Outcome<()> {
    // A device of each account. The first one is trusted as it comes.
    let alice_phone = Device::new("alice's phone", Arc::clone(&alice), Arc::clone(&service))?;
    let bob_phone = Device::new("bob's phone", bob, Arc::clone(&service))?;
    for device in [&alice_phone, &bob_phone] {
        let registered = device.register().await?;
        device.publish(5, true).await?;
        say(&format!("{} is registered, {}", device.name(), registered.state));
    }

    // Alice's laptop shows a code; her phone vouches for it, and her device chain grows by a link.
    let laptop = Device::new("alice's laptop", alice, Arc::clone(&service))?;
    let code = laptop.begin_pairing().await?;
    alice_phone.approve_pairing(&code, b"sealed to the laptop's key by the application").await?;
    laptop.claim_pairing(&code).await?;
    laptop.publish(5, true).await?;
    say(&format!(
        "{} is paired: {} devices in the chain",
        laptop.name(),
        laptop.device_chain().await?.devices().count()
    ));

    // A conversation. Whoever listens does so from the beginning of what is kept.
    let stream = alice_phone.create_convo().await?;
    let mut feeds = [
        (&bob_phone, Feed::new(&bob_phone, Some(EventCursor::oldest()))),
        (&laptop, Feed::new(&laptop, Some(EventCursor::oldest()))),
    ];
    alice_phone.add_members(&stream, &[bob_phone.did().clone(), alice_phone.did().clone()]).await?;
    let sent = alice_phone.send(&stream, b"the same for both of you").await?;
    say(&format!("alice's phone sent entry {} in epoch {}", sent.seq, sent.epoch));
    for (device, feed) in &mut feeds {
        let text = hear(device, feed, &stream).await?;
        let head = feed.chains().head(&stream).ok_or("no entry was checked")?;
        say(&format!("{} decrypted {text:?}; its chain is checked up to entry {}", device.name(), head.seq));
    }

    // The answer comes over the same subscription, opened anew where it was left.
    let (cursor, device) = (feeds[1].1.chains().cursor().cloned(), &laptop);
    let mut resumed = Feed::new(device, cursor);
    bob_phone.send(&stream, b"read you").await?;
    let text = hear(device, &mut resumed, &stream).await?;
    say(&format!("{} resumed at its cursor and decrypted {text:?}", device.name()));
    if text != "read you" {
        return Err("that is not what bob said".into());
    }
    Ok(())
}

/// The development server is the did:web of its address.
fn service_did(url: &str) -> Outcome<Did> {
    let host = url.split("://").nth(1).ok_or("the address needs a scheme")?.trim_end_matches('/');
    Ok(Did::parse(&format!("did:web:{}", host.replace(':', "%3A")))?)
}

/// A new account whose DID document is found on this machine.
async fn account() -> Outcome<Arc<OwnKey>> {
    let key = SigningKey::generate(Curve::P256);
    let did = did_host::serve(&key.public()).await?;
    Ok(Arc::new(OwnKey::new(did, key)))
}

/// The account whose `handle:password` the variable holds. An app password does.
async fn at_pds(url: &str, variable: &str) -> Outcome<Arc<Pds>> {
    let credentials = std::env::var(variable)?;
    let (handle, password) = credentials.split_once(':').ok_or("expected handle:password")?;
    Ok(Arc::new(Pds::log_in(url, handle, &password.into()).await?))
}

/// Reads on until somebody else says something.
async fn hear<A: Account>(device: &Device<A>, feed: &mut Feed, stream: &str) -> Outcome<String> {
    let heard = async {
        loop {
            let Received::Event(event) = feed.next().await? else { continue };
            for heard in device.hear(&event).await? {
                if let Heard::Message { stream: of, plaintext, .. } = heard
                    && of == stream
                {
                    return Outcome::Ok(String::from_utf8(plaintext)?);
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, heard).await?
}

#[expect(clippy::print_stdout, reason = "an example shows what happens")]
fn say(what: &str) {
    println!("{what}");
}
