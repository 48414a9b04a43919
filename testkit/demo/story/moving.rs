//! Somebody moves to another server, with all devices and conversations, in the middle of the talk.

use std::sync::Arc;

use anyhow::{Context, ensure};

use super::federated::TABLET;
use super::{BRIDGE, KEY_PACKAGES, Stage};
use crate::process::Process;
use rookery::lexicon::account::export_data::{self, ExportData};
use rookery::lexicon::account::import_data::{self, ImportData};
use rookery::types::Did;
use rookery_client::Service;
use rookery_testkit::Directory;

impl Stage<'_> {
    /// Carol's devices get to know server `to`, her document names it, and it takes over what the old one exports.
    pub(super) async fn moving(&mut self, directory: &Directory, to: &Process) -> anyhow::Result<()> {
        self.transcript.act("Carol moves to bob's server");
        let service = Arc::new(Service::new(&to.url(), Did::parse(&to.way.did())?)?);
        let (old, old_tablet) = (self.player("carol")?.person.clone(), self.player(TABLET)?.person.clone());
        let (carol, tablet) = (old.at(Arc::clone(&service)), old_tablet.at(service));
        carol.register().await.context("carol registers at her new server")?;
        tablet.register().await.context("carol's tablet registers there")?;
        let certificate = carol.vouch_for(&tablet.keys()).await.context("carol vouches for her tablet there")?;
        tablet.register_vouched(certificate).await.context("carol's tablet registers again")?;

        let mut parts = Vec::new();
        let mut asked = export_data::Params { cursor: None };
        loop {
            let part = old.query::<ExportData>(&asked).await.context("carol exports")?;
            asked.cursor.clone_from(&part.cursor);
            parts.push(serde_json::to_value(part)?);
            if asked.cursor.is_none() {
                break;
            }
        }
        // This is the move; all else follows from it.
        directory.add_at(carol.account(), &to.way.origin());
        for part in parts {
            let input: import_data::Input = serde_json::from_value(part)?;
            carol.procedure::<ImportData>(&input).await.context("carol imports")?;
        }
        for device in [&carol, &tablet] {
            device.publish(KEY_PACKAGES, true).await.context("carol publishes key packages at her new server")?;
        }
        self.cast.move_to("carol", carol)?;
        self.cast.move_to(TABLET, tablet)?;

        self.send(BRIDGE, "alice", "where are you, carol?").await?;
        self.everybody_heard().await?;
        self.send(BRIDGE, "carol", "at bob's place").await?;
        self.send(BRIDGE, TABLET, "with everything I had").await?;
        self.send(BRIDGE, "bob", "welcome").await?;
        self.everybody_heard().await?;
        let convo = self.player("alice")?.person.convo(&self.convos[BRIDGE].stream).await?;
        ensure!(convo.members.len() == 3, "the bridge has {} members", convo.members.len());
        self.transcript.say("carol's seats are b's now; both her devices go on where they were");
        Ok(())
    }
}
