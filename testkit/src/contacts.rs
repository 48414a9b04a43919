//! People who know each other, and those who do not.

use crate::Person;
use rookery::lexicon::account::list_relationships::{self, ListRelationships};
use rookery::lexicon::account::set_block::{self, SetBlock};
use rookery::lexicon::account::set_invitation_policy::{self, SetInvitationPolicy};
use rookery::lexicon::account::set_relationship::{self, SetRelationship};
use rookery::lexicon::mls::claim_key_packages::{self, ClaimKeyPackages};
use rookery::types::Did;
use rookery_client::CallError;

use crate::idem;

/// What a person says about others.
#[expect(async_fn_in_trait, reason = "tests call these on their own task")]
pub trait Contacts {
    /// What it is now.
    async fn relate(&self, other: &Person, change: &str) -> Result<String, CallError>;
    /// What stands with this account.
    async fn stands(&self, other: &Person) -> String;
    async fn block(&self, other: &Person, blocked: bool);
    async fn invitations(&self, policy: &str);
    /// What the first target of a claim is told: nothing if there are packages.
    async fn claims(&self, stream: &str, target: &Did) -> Option<String>;
}

impl Contacts for Person {
    async fn relate(&self, other: &Person, change: &str) -> Result<String, CallError> {
        let account = other.did().clone();
        let input = set_relationship::Input { account, change: change.to_owned(), note: None };
        Ok(self.procedure::<SetRelationship>(&input).await?.state)
    }

    async fn stands(&self, other: &Person) -> String {
        let params = list_relationships::Params { state: None, limit: 100, cursor: None };
        let listed = self.query::<ListRelationships>(&params).await.unwrap().relationships;
        let found = listed.into_iter().find(|one| one.account == *other.did());
        found.map_or("none".to_owned(), |one| one.state)
    }

    async fn block(&self, other: &Person, blocked: bool) {
        let input = set_block::Input { account: other.did().clone(), blocked };
        self.procedure::<SetBlock>(&input).await.unwrap();
    }

    async fn invitations(&self, policy: &str) {
        let input = set_invitation_policy::Input { invitations: policy.to_owned() };
        self.procedure::<SetInvitationPolicy>(&input).await.unwrap();
    }

    async fn claims(&self, stream: &str, target: &Did) -> Option<String> {
        let input = claim_key_packages::Input {
            claim_id: idem(),
            stream: stream.to_owned(),
            home: None,
            targets: vec![target.clone()],
            cipher_suites: vec![1],
        };
        let mut answer = self.procedure::<ClaimKeyPackages>(&input).await.unwrap();
        let target = answer.targets.remove(0);
        assert_eq!(target.packages.is_none(), target.problem.is_some());
        target.problem
    }
}

/// Both agree that they are contacts.
pub async fn befriend(one: &Person, other: &Person) {
    one.relate(other, "request").await.unwrap();
    assert_eq!(other.relate(one, "accept").await.unwrap(), "accepted");
}
