//! What must be refused, each by its own name.

use anyhow::{bail, ensure};

use super::{PAIR, STUDY, Stage, VILLAGE};
use rookery::identity::service_token;
use rookery::lexicon::account::list_devices::ListDevices;
use rookery::lexicon::mls::get_convos::{self, GetConvos};
use rookery::lexicon::mls::get_group_state::{self, GetGroupState};
use rookery::lexicon::mls::get_key_packages::{self, GetKeyPackages};
use rookery::lexicon::mls::send_message::{self, SendMessage};
use rookery::lexicon::{Method, Nothing};
use rookery::types::Bytes;
use rookery_client::{CallError, ClientError};
use rookery_testkit::Person;

impl Stage<'_> {
    pub(super) async fn refusals(&mut self, second: &Person) -> anyhow::Result<()> {
        self.transcript.act("What is refused");
        self.uncertified(second).await?;
        self.tokens().await?;
        self.stranger().await?;
        self.rights().await
    }

    /// A second device that no certified device has vouched for.
    async fn uncertified(&mut self, second: &Person) -> anyhow::Result<()> {
        let refused = second.create_convo().await;
        self.refuses("alice's uncertified tablet founds a conversation", refused, 403, "DeviceUncertified")?;
        let grace = &self.player("grace")?.person;
        let params = get_key_packages::Params { accounts: vec![second.did().clone()] };
        let offered = grace.query::<GetKeyPackages>(&params).await?;
        let devices: Vec<&str> = offered
            .accounts
            .iter()
            .flat_map(|account| account.devices.iter().map(|device| device.device.as_str()))
            .collect();
        ensure!(devices == [self.player("alice")?.person.device().as_str()], "claims offer {} devices", devices.len());
        Ok(())
    }

    async fn tokens(&mut self) -> anyhow::Result<()> {
        let (service, alice) = (self.service.clone(), self.player("alice")?.person.clone());
        let nsid = GetConvos::NSID;
        let params = get_convos::Params { limit: 10, cursor: None };
        let ask = async |token: Option<String>| service.query::<GetConvos>(&params, || token.clone()).await;

        self.refuses("a call without a token", ask(None).await, 401, "AuthenticationRequired")?;
        let token = alice.token(nsid);
        ask(Some(token.clone())).await?;
        self.refuses("a token used twice", ask(Some(token)).await, 401, "ReplayedToken")?;
        let other = alice.token(SendMessage::NSID);
        self.refuses("a token for another method", ask(Some(other)).await, 401, "BadJwtLexiconMethod")?;

        // Signed by mallory's account, in the name of alice's.
        let mallory = self.player("mallory")?.person.clone();
        let forge = || {
            let (aud, now) = (service.did().as_str(), service.clock().now());
            Some(service_token(&mallory.account().key, alice.did(), aud, ListDevices::NSID, now))
        };
        let forged = service.query::<ListDevices>(&Nothing {}, forge).await;
        // Both have a P-256 key, so only the signature tells.
        self.refuses("a token that mallory signed for alice", forged, 401, "BadJwtSignature")
    }

    /// Somebody without a seat sees nothing, not even that there is something.
    async fn stranger(&mut self) -> anyhow::Result<()> {
        let mallory = self.player("mallory")?.person.clone();
        let stream = self.convos[VILLAGE].stream.clone();
        let entries = mallory.entries(&stream, 0).await;
        self.refuses("a stranger reads", entries, 404, "StreamNotFound")?;
        let params = get_group_state::Params { stream: stream.clone(), if_not: None };
        let state = mallory.query::<GetGroupState>(&params).await;
        self.refuses("a stranger asks for the group's state", state, 404, "StreamNotFound")?;
        let claimed = mallory.claim(&stream, &[self.did("alice")?]).await;
        self.refuses("a stranger claims key packages for it", claimed, 404, "StreamNotFound")?;

        // A ciphertext of the right group, as an eavesdropper might have it.
        let (ciphertext, _) = self.player("frank")?.person.encrypt(&stream, b"never sent").await?;
        let input = message(&stream, "a-stranger-s-message", &ciphertext);
        let sent = mallory.procedure::<SendMessage>(&input).await;
        self.refuses("a stranger writes", sent, 404, "StreamNotFound")
    }

    async fn rights(&mut self) -> anyhow::Result<()> {
        let (village, pair) = (self.convos[VILLAGE].stream.clone(), self.convos[PAIR].stream.clone());
        let (grace, frank) = (self.player("grace")?.person.clone(), self.player("frank")?.person.clone());
        let removed = grace.remove_members(&village, &[self.did("heidi")?]).await;
        self.refuses("a member who is no admin removes another", removed, 403, "NotAuthorized")?;

        // The same name for two different messages; the first is a message like any other.
        let text = format!("{} frank: twice the same idem", self.convos[PAIR].messages.len());
        let (first, epoch) = frank.encrypt(&pair, text.as_bytes()).await?;
        let input = message(&pair, "one-name-for-two-calls", &first);
        let receipt = frank.procedure::<SendMessage>(&input).await?;
        let again = frank.procedure::<SendMessage>(&input).await?;
        ensure!(receipt == again, "the same call was answered in two ways");
        let by = frank.name().to_owned();
        self.convos[PAIR].messages.push(super::Message { seq: receipt.seq, epoch, by, text });
        let (second, _) = frank.encrypt(&pair, b"something else").await?;
        let conflict = frank.procedure::<SendMessage>(&message(&pair, "one-name-for-two-calls", &second)).await;
        self.refuses("one idem for two messages", conflict, 409, "IdempotencyConflict")?;

        let input = message(&village, "the-wrong-conversation", &second);
        let elsewhere = frank.procedure::<SendMessage>(&input).await;
        self.refuses("a message for another group", elsewhere, 400, "GroupIdMismatch")
    }

    /// Erin was removed from the study: the server gives her nothing more, and what she gets otherwise stays closed.
    pub(super) async fn erin_is_out(&mut self) -> anyhow::Result<()> {
        let stream = self.convos[STUDY].stream.clone();
        let (erin, dave) = (self.player("erin")?.person.clone(), self.player("dave")?.person.clone());
        let params = get_group_state::Params { stream: stream.clone(), if_not: None };
        let state = erin.query::<GetGroupState>(&params).await;
        self.refuses("erin, removed, asks for the group's state", state, 403, "NotMember")?;
        let (ciphertext, _) = self.player("alice")?.person.encrypt(&stream, b"never sent").await?;
        let input = message(&stream, "a-removed-member-writes", &ciphertext);
        let sent = erin.procedure::<SendMessage>(&input).await;
        self.refuses("erin, removed, writes", sent, 403, "NotMember")?;

        self.send(STUDY, "grace", "erin is not to know this").await?;
        self.everybody_heard().await?;
        // Somebody hands her the bytes, and hands dave, who is new, those from before his time.
        let alice = self.player("alice")?.person.clone();
        let messages: Vec<_> =
            alice.entries(&stream, 0).await?.into_iter().filter(|entry| entry.kind == "#message").collect();
        let (Some(oldest), Some(newest)) = (messages.first(), messages.last()) else { bail!("nothing was said") };
        let body = |entry: &rookery::lexicon::event::defs::Entry| entry.body.clone().unwrap_or_default();
        ensure!(erin.try_read(&stream, body(newest).as_slice()).await.is_err(), "erin read on after her removal");
        ensure!(dave.try_read(&stream, body(oldest).as_slice()).await.is_err(), "dave read what was before his time");
        let seen = erin.entries(&stream, 0).await?.last().map_or(0, |entry| entry.seq);
        let until = self.convos[STUDY].windows("erin").last().and_then(|window| window.until);
        ensure!(Some(seen) == until, "erin is shown entry {seen}, and her seat ended at {until:?}");
        self.transcript.say("erin cannot open what came after her, nor dave what was before him, even given the bytes");
        Ok(())
    }

    /// Counts a refusal if it is the right one.
    pub(super) fn refuses<T>(
        &mut self,
        what: &str,
        outcome: Result<T, impl Into<ClientError>>,
        status: u16,
        error: &str,
    ) -> anyhow::Result<()> {
        self.transcript.step(what);
        match outcome.map_err(Into::into) {
            Err(ClientError::Call(CallError::Refused(refused)))
                if refused.status == status && refused.error == error =>
            {
                self.refused += 1;
                self.transcript.say(format_args!("{what}: {status} {error}"));
                Ok(())
            }
            Err(other) => bail!("{what}: expected {status} {error}, got: {other}"),
            Ok(_) => bail!("{what}: expected {status} {error}, and it was done"),
        }
    }
}

fn message(stream: &str, idem: &str, ciphertext: &[u8]) -> send_message::Input {
    send_message::Input { stream: stream.to_owned(), idem: idem.to_owned(), ciphertext: Bytes::from(ciphertext) }
}
