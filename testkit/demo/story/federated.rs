//! Three servers that never met, and one conversation: a server is cut off, another one goes back to an old backup, while
//! people on all three talk.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::Instant;

use super::ledger::{Convo, Message};
use super::{A, B, BRIDGE, C, KEY_PACKAGES, Stage};
use crate::process::Process;
use rookery::identity::Curve;
use rookery::lexicon::Method;
use rookery::lexicon::mls::send_message::{self, SendMessage};
use rookery::types::{Bytes, Did};
use rookery_client::Service;
use rookery_testkit::Person;
use rookery_testkit::{Directory, Form, Identity};

/// What is said while somebody is cut off or put back.
const WORDS: [&str; 4] = ["one", "two", "three", "four"];
pub(super) const TABLET: &str = "carol's tablet";
/// How long a call may be repeated until the way is there again.
const SOON: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

impl Stage<'_> {
    pub(super) async fn federated(&mut self, directory: &Directory, servers: &mut [Process]) -> anyhow::Result<()> {
        self.strangers(directory, servers).await?;
        let backup = servers[C].back_up().await.context("backing up server c")?;
        self.transcript.say("server c is stopped, backed up and started again");
        self.cut_off(servers).await?;
        self.put_back(&mut servers[C], &backup).await?;
        self.moving(directory, &servers[B]).await
    }

    /// Alice on a, bob on b, carol on c with two devices: nobody told the servers of one another.
    async fn strangers(&mut self, directory: &Directory, servers: &[Process]) -> anyhow::Result<()> {
        self.transcript.act("Three servers that never met");
        self.newcomer(directory, &servers[B], "bob", Curve::K256).await?;
        self.newcomer(directory, &servers[C], "carol", Curve::P256).await?;
        self.second_device("carol", TABLET).await?;

        let stream = self.player("alice")?.person.create_convo().await?;
        ensure!(self.convos.len() == BRIDGE, "the bridge is another conversation");
        self.convos.push(Convo::new("bridge", stream, "alice"));
        self.send(BRIDGE, "alice", "is anybody out there?").await?;
        self.add(BRIDGE, "alice", &["bob"]).await?;
        self.send(BRIDGE, "bob", "hello from b").await?;
        // A commit that another server orders, and key packages of a third.
        self.add(BRIDGE, "bob", &["carol"]).await?;
        self.send(BRIDGE, "carol", "hello from c").await?;
        self.send(BRIDGE, TABLET, "and from my tablet").await?;
        self.send(BRIDGE, "alice", "so there are three of us").await?;
        self.everybody_heard().await?;
        self.transcript.say("bridge: alice on a, bob on b and carol's two devices on c hear one another");
        Ok(())
    }

    async fn newcomer(
        &mut self,
        directory: &Directory,
        server: &Process,
        name: &str,
        curve: Curve,
    ) -> anyhow::Result<()> {
        let identity = Identity::plc(curve, Form::Multikey)?;
        directory.add_at(&identity, &server.way.origin());
        let service = Arc::new(Service::new(&server.url(), Did::parse(&server.way.did())?)?);
        let person = Person::new(name, Arc::new(identity), service)?;
        person.register().await.with_context(|| format!("{name} registers on {}", server.name))?;
        person.publish(KEY_PACKAGES, true).await.with_context(|| format!("{name} publishes key packages"))?;
        self.cast.enter(person);
        self.transcript.say(format_args!("{name} is here, on server {}", server.name));
        Ok(())
    }

    async fn second_device(&mut self, of: &str, name: &str) -> anyhow::Result<()> {
        let first = self.player(of)?.person.clone();
        let device = Person::new(name, Arc::clone(first.account()), Arc::clone(first.service()))?;
        device.register().await.with_context(|| format!("{name} registers"))?;
        let certificate = first.vouch_for(&device.keys()).await.with_context(|| format!("{of} vouches for {name}"))?;
        device.register_vouched(certificate).await.with_context(|| format!("{name} registers again"))?;
        device.publish(KEY_PACKAGES, true).await.with_context(|| format!("{name} publishes key packages"))?;
        self.cast.enter_as(of, device);
        Ok(())
    }

    /// Nothing goes to b or comes from there, while all three say something.
    async fn cut_off(&mut self, servers: &[Process]) -> anyhow::Result<()> {
        self.transcript.act("Server b is cut off");
        let name = servers[B].way.did();
        servers[B].way.bar(None);
        for other in [A, C] {
            servers[other].way.bar(Some(&name));
        }
        for word in WORDS {
            self.send(BRIDGE, "alice", word).await?;
            self.send(BRIDGE, "carol", word).await?;
        }
        let bob = self.player("bob")?.person.clone();
        let stream = self.convos[BRIDGE].stream.clone();
        let text = format!("{} bob: can you hear me?", self.convos[BRIDGE].messages.len());
        let (ciphertext, epoch) = bob.encrypt(&stream, text.as_bytes()).await?;
        let input = send_message::Input { stream, idem: rookery_client::idem(), ciphertext: Bytes(ciphertext) };
        let impatient = Service::new(&servers[B].url(), Did::parse(&name)?)?.with_patience(Duration::ZERO);
        let once = async || impatient.procedure::<SendMessage>(&input, || Some(bob.token(SendMessage::NSID))).await;
        self.refuses("bob speaks while nobody can tell whether it arrives", once().await, 504, "OutcomeUnknown")?;
        let heard = self.player("bob")?.diary().last_seq(&self.convos[BRIDGE].stream);
        self.transcript.say(format_args!("alice and carol go on; bob is still at entry {heard}"));

        for server in servers {
            server.way.mend();
        }
        self.transcript.step("bob's call going through");
        let until = Instant::now() + SOON;
        let receipt = loop {
            match once().await {
                Ok(receipt) => break receipt,
                Err(error) if Instant::now() >= until => return Err(error).context("bob's call, repeated"),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        };
        self.convos[BRIDGE].messages.push(Message { seq: receipt.seq, epoch, by: "bob".to_owned(), text });
        self.everybody_heard().await?;
        self.transcript
            .say("the way is there again: bob's call went through with the same idem, and he heard all he missed");
        Ok(())
    }

    /// Server c forgets all since its backup; what the others hold of it comes back.
    async fn put_back(&mut self, server: &mut Process, backup: &std::path::Path) -> anyhow::Result<()> {
        self.transcript.act("Server c goes back to an old backup");
        for word in WORDS {
            self.send(BRIDGE, "carol", word).await?;
        }
        server.restore(backup).await.context("putting the backup in place")?;
        self.transcript.say("server c is started with what it knew before b was cut off");
        // Its clients know that their server has lost its memory: they listen from the beginning again.
        for name in ["carol", TABLET] {
            self.cast.listen_anew(name)?;
        }
        for word in WORDS {
            self.send(BRIDGE, "alice", word).await?;
            self.send(BRIDGE, "bob", word).await?;
        }
        self.everybody_heard().await?;
        self.send(BRIDGE, "carol", "what did I miss?").await?;
        self.send(BRIDGE, TABLET, "nothing").await?;
        self.everybody_heard().await?;
        self.transcript.say("what c had forgotten came back from its home, entry by entry, and carol speaks again");
        Ok(())
    }
}
