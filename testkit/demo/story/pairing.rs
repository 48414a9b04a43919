//! A second device comes into an account: a code that it shows, a device that vouches for it, and a claim.

use anyhow::{Context, ensure};

use super::{KEY_PACKAGES, Stage, VILLAGE};
use rookery::lexicon::account::claim_pairing::{self, ClaimPairing};
use rookery_client::{ClientError, PairingCode};
use rookery_testkit::Person;

/// Sealed to the new device by the real clients; here nobody looks into it.
const PAYLOAD: &[u8] = b"what the tablet needs from the phone";

impl Stage<'_> {
    /// Alice's tablet is paired, added to the village by her phone, and listens from then on.
    pub(super) async fn pairing(&mut self, tablet: Person) -> anyhow::Result<()> {
        self.transcript.act("Pairing a second device");
        let alice = self.player("alice")?.person.clone();
        let code = tablet.begin_pairing().await.context("the tablet shows a code")?;
        let early = tablet.claim_pairing(&code).await;
        self.refuses("alice's tablet claims before anybody approved", early, 409, "PairingPending")?;
        alice.approve_pairing(&code, PAYLOAD).await.context("alice approves")?;
        let mallory = self.player("mallory")?.person.clone();
        self.refuses("mallory claims it without the key", claims(&mallory, &code).await, 404, "PairingNotFound")?;
        let claimed = tablet.claim_pairing(&code).await.context("the tablet claims")?;
        ensure!(claimed.payload.as_slice() == PAYLOAD, "the payload is not the one that was left");
        self.refuses("alice's tablet claims again", claims(&tablet, &code).await, 409, "PairingClaimed")?;
        let chain = alice.device_chain().await.context("alice checks her device chain")?;
        ensure!(chain.device(tablet.device()).is_some(), "the chain does not vouch for the tablet");
        self.transcript.say(format_args!(
            "alice's tablet is paired: {} devices in her chain, whose {} links she checked",
            chain.devices().count(),
            chain.head().seq
        ));

        tablet.publish(KEY_PACKAGES, true).await.context("the tablet publishes key packages")?;
        let (stream, name) = (self.convos[VILLAGE].stream.clone(), tablet.name().to_owned());
        let device = tablet.device().to_string();
        self.cast.enter_as("alice", tablet);
        // A claim answers for every certified device of the account, the phone itself included.
        let mut packages = alice.claim(&stream, &[alice.did().clone()]).await?;
        packages.retain(|package| package.device == device);
        self.in_epoch(VILLAGE, "alice").await?;
        let committed = alice.change(&stream, &packages, &[]).await.context("alice adds her tablet")?;
        self.record(VILLAGE, &committed, &[&name], &[]);
        self.transcript.say(format_args!("village: alice adds her tablet (epoch {})", committed.epoch));
        self.send(VILLAGE, "grace", "do you hear this on both?").await?;
        self.send(VILLAGE, &name, "from the tablet: yes").await?;
        self.everybody_heard().await
    }
}

/// A claim under another name.
async fn claims(person: &Person, code: &PairingCode) -> Result<claim_pairing::Output, ClientError> {
    let input = person.claim_of(code)?;
    Ok(person.service().procedure::<ClaimPairing>(&input, || None).await?)
}
