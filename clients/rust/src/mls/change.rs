//! Changing a group: stage, ask the server, then confirm or discard. Never merge a commit that no server has taken.

use openmls::prelude::{KeyPackage, KeyPackageIn, LeafNodeIndex, ProtocolVersion};
use openmls_traits::OpenMlsProvider;
use rookery_protocol::types::DeviceId;
use tls_codec::Deserialize;

use super::{Client, Error, KEY_PACKAGE_HEADER};

/// What to send to the server for one change. All are MLSMessages.
#[derive(Clone)]
pub struct Staged {
    pub commit: Vec<u8>,
    /// Present if somebody is added.
    pub welcome: Option<Vec<u8>>,
    /// Of the epoch that the commit makes, with its tree.
    pub group_info: Vec<u8>,
}

impl Client {
    pub fn stage_add(&mut self, group_id: &[u8], key_packages: &[Vec<u8>]) -> Result<Staged, Error> {
        self.stage_change(group_id, key_packages, &[])
    }

    pub fn stage_remove(&mut self, group_id: &[u8], devices: &[DeviceId]) -> Result<Staged, Error> {
        self.stage_change(group_id, &[], devices)
    }

    /// Removes, adds and renews this client's own leaf in one commit; with neither it only renews.
    ///
    /// A device that is removed and added by the same commit gets a new leaf. An earlier change that is still staged is
    /// an error: confirm or discard it first.
    pub fn stage_change(
        &mut self,
        group_id: &[u8],
        key_packages: &[Vec<u8>],
        removes: &[DeviceId],
    ) -> Result<Staged, Error> {
        let adds = key_packages.iter().map(|bytes| self.read_key_package(bytes)).collect::<Result<Vec<_>, _>>()?;
        let members = self.members(group_id)?;
        let leaf_of = |device: &DeviceId| {
            let member = members.iter().find(|member| member.device == *device);
            member.map(|member| LeafNodeIndex::new(member.index)).ok_or(Error::UnknownMember)
        };
        let removed = removes.iter().map(leaf_of).collect::<Result<Vec<_>, _>>()?;
        let group = self.groups.get_mut(group_id).ok_or(Error::UnknownGroup)?;

        let builder = group.commit_builder().force_self_update(true).propose_removals(removed).propose_adds(adds);
        let builder = builder.load_psks(self.provider.storage()).map_err(Error::mls("building a commit"))?;
        let built = builder.use_ratchet_tree_extension(true).build(
            self.provider.rand(),
            self.provider.crypto(),
            &self.signer,
            |_| true,
        );
        let bundle = built.map_err(Error::mls("building a commit"))?.stage_commit(&self.provider);
        let (commit, welcome, group_info) = bundle.map_err(Error::mls("staging a commit"))?.into_messages();
        let group_info = group_info.ok_or(Error::Malformed("openmls made no GroupInfo"))?;
        let bytes =
            |message: &openmls::prelude::MlsMessageOut| message.to_bytes().map_err(Error::mls("writing a commit"));
        Ok(Staged {
            commit: bytes(&commit)?,
            welcome: welcome.as_ref().map(bytes).transpose()?,
            group_info: bytes(&group_info)?,
        })
    }

    /// The server took the staged commit: this client enters the new epoch.
    pub fn confirm(&mut self, group_id: &[u8]) -> Result<(), Error> {
        let group = self.groups.get_mut(group_id).ok_or(Error::UnknownGroup)?;
        group.merge_pending_commit(&self.provider).map_err(Error::mls("merging a commit"))
    }

    /// The server took another commit, or none: the staged one is forgotten. Then receive, and stage again.
    pub fn discard(&mut self, group_id: &[u8]) -> Result<(), Error> {
        let group = self.groups.get_mut(group_id).ok_or(Error::UnknownGroup)?;
        group.clear_pending_commit(self.provider.storage()).map_err(Error::mls("forgetting a commit"))
    }

    fn read_key_package(&self, bytes: &[u8]) -> Result<KeyPackage, Error> {
        // Some clients publish the bare structure.
        let wrapped = bytes.strip_prefix(&KEY_PACKAGE_HEADER).filter(|raw| raw.starts_with(&[0, 1]));
        let raw = wrapped.unwrap_or(bytes);
        let package = KeyPackageIn::tls_deserialize_exact(raw).map_err(|_| Error::Malformed("a KeyPackage"))?;
        let verified = package.validate(self.provider.crypto(), ProtocolVersion::Mls10);
        verified.map_err(Error::mls("verifying a key package"))
    }
}
