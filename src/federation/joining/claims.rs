//! Claims for accounts of other servers, each asked of its own.
//!
//! Invariants: a server is asked for its own accounts alone, for a claim of its own name, so that a repeat of the whole
//! is a repeat there; where one does not answer, the others' answers stand.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::whereabouts::{self, Whereabouts};
use crate::federation::{AccountHome, Actor, CallError, Federation, Policy};
use crate::lexicon::mls::claim_key_packages::{ClaimKeyPackages, Input, Target};
use crate::storage;
use crate::types::{DeviceId, Did, Hash};

/// No answer of the account's server, or none that can be told apart from it.
pub const UNAVAILABLE: &str = "unavailable";
/// The account's server says that it is another one.
const MOVED: &str = "moved";

/// The account that claims.
#[derive(Clone, Debug)]
pub struct Inviter {
    pub account: Did,
    pub device: DeviceId,
}

/// The part of a claim that one server is asked. The server and the targets identify the part, so that a repeat under
/// its claim id gets the stored packages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimPart {
    pub server: Did,
    /// The targets, in order.
    pub targets: Vec<Did>,
}

/// Another server's answer about one account, and the part of the claim that it answered; `None` as the part where the
/// account's server is unknown.
#[derive(Clone, Debug)]
pub struct ForeignAnswer {
    pub target: Target,
    pub part: Option<Arc<ClaimPart>>,
}

/// The answers of other servers, by account.
pub type ForeignAnswers = HashMap<Did, ForeignAnswer>;

/// Asks the servers of those targets that live elsewhere. `claim` names stream, home and suites. The result leaves out
/// targets of this server.
pub async fn ask_elsewhere(
    federation: &Arc<Federation>,
    inviter: &Inviter,
    claim: &Input,
    homes: &Whereabouts,
) -> ForeignAnswers {
    let mut answers = ask(federation, inviter, claim, homes).await;
    // A server's claim that an account has moved causes one look-up, and one more request.
    let moved = |answer: &&ForeignAnswer| answer.target.problem.as_deref() == Some(MOVED);
    let moved: Vec<Did> = answers.values().filter(moved).map(|answer| answer.target.account.clone()).collect();
    for account in &moved {
        federation.look_again(account).await;
    }
    if !moved.is_empty() {
        // Beyond the budget of look-ups, the first answers are final.
        let located = whereabouts::locate(federation, &inviter.account, moved).await;
        let mut fresh = located.unwrap_or_default();
        fresh.retain(|account, home| homes.get(account) != Some(home));
        answers.extend(ask(federation, inviter, claim, &fresh).await);
    }
    answers
}

async fn ask(federation: &Arc<Federation>, inviter: &Inviter, claim: &Input, homes: &Whereabouts) -> ForeignAnswers {
    let (mut answers, mut by_server) = (HashMap::new(), BTreeMap::<&Did, Vec<Did>>::new());
    for (account, home) in homes {
        match home {
            Ok(AccountHome::Elsewhere(server)) => by_server.entry(server).or_default().push(account.clone()),
            Ok(AccountHome::Here | AccountHome::Nowhere) => {}
            Err(_) => {
                answers.insert(account.clone(), ForeignAnswer { target: unavailable(account), part: None });
            }
        }
    }
    let parts = by_server.into_iter().map(|(server, mut targets)| {
        targets.sort();
        Arc::new(ClaimPart { server: server.clone(), targets })
    });
    answers.extend(ask_parts(federation, inviter, claim, parts).await);
    answers
}

/// Asks each server for its part of the claim, concurrently.
pub async fn ask_parts(
    federation: &Arc<Federation>,
    inviter: &Inviter,
    claim: &Input,
    parts: impl IntoIterator<Item = Arc<ClaimPart>>,
) -> ForeignAnswers {
    let mut calls = JoinSet::new();
    for part in parts {
        let (federation, inviter) = (Arc::clone(federation), inviter.clone());
        let claim_id = claim_id(&claim.claim_id, &part.server, &part.targets);
        let input = Input { claim_id, targets: part.targets.clone(), ..claim.clone() };
        calls.spawn(async move {
            let actor = Actor { account: &inviter.account, device: Some(inviter.device.as_str()) };
            let answer = federation.procedure::<ClaimKeyPackages>(&part.server, &input, Some(actor)).await;
            let told = told(&part.server, input.targets, answer.map(|answer| answer.targets));
            (told, part)
        });
    }
    let mut answers = HashMap::new();
    while let Some(answered) = calls.join_next().await {
        let Ok((told, part)) = answered else { continue };
        let of_part = |(account, target)| (account, ForeignAnswer { target, part: Some(Arc::clone(&part)) });
        answers.extend(told.into_iter().map(of_part));
    }
    answers
}

/// The name of one server's part of a claim. Other targets are another claim.
fn claim_id(whole: &str, server: &Did, targets: &[Did]) -> String {
    let targets: Vec<&str> = targets.iter().map(Did::as_str).collect();
    let text = [&[whole, server.as_str()], &targets[..]].concat().join(" ");
    hex::encode(&Hash::labelled("rookery claim v1", text.as_bytes()).0[..16])
}

/// The answers for the accounts that the server was asked for, and for no others.
fn told(server: &Did, asked: Vec<Did>, answer: Result<Vec<Target>, CallError>) -> HashMap<Did, Target> {
    if let Err(error) = &answer {
        tracing::info!(peer = server.as_str(), error = error as &dyn std::error::Error, "a claim was not answered");
    }
    let mut answered = answer.unwrap_or_default();
    let mut target = |account: Did| {
        let at = answered.iter().position(|target| target.account == account);
        let target = at.map(|at| answered.swap_remove(at)).filter(holds_together);
        (account.clone(), target.unwrap_or_else(|| unavailable(&account)))
    };
    asked.into_iter().map(&mut target).collect()
}

/// Packages or a problem, and no more of them than a client bears.
fn holds_together(target: &Target) -> bool {
    const PACKAGES: usize = 50;
    const PACKAGE_BYTES: usize = 16 << 10;
    match (&target.packages, &target.problem) {
        (Some(packages), None) => {
            let fits = |bytes: &[u8], most| !bytes.is_empty() && bytes.len() <= most;
            (1..=PACKAGES).contains(&packages.len())
                && packages.iter().all(|one| {
                    fits(one.key_package.as_slice(), PACKAGE_BYTES)
                        && fits(one.r#ref.as_slice(), 64)
                        && (1..=64).contains(&one.device.len())
                })
        }
        (None, Some(problem)) => problem.len() <= 64,
        _ => false,
    }
}

fn unavailable(account: &Did) -> Target {
    Target { account: account.clone(), packages: None, problem: Some(UNAVAILABLE.to_owned()) }
}

impl Federation {
    /// Whether the operator allowed this server by name.
    pub async fn is_allowed(&self, server: &Did) -> Result<bool, storage::Error> {
        let known = self.known(server).await?;
        Ok(self.settings.allowed.contains(server) || known.is_some_and(|known| known.policy == Policy::Allowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexicon::mls::claim_key_packages::Package;
    use crate::types::Bytes;

    fn did(text: &str) -> Did {
        Did::parse(text).unwrap()
    }

    fn with(account: &Did, packages: usize) -> Target {
        let package = Package {
            device: "d1".to_owned(),
            cipher_suite: 1,
            r#ref: Bytes(vec![1]),
            key_package: Bytes(vec![1]),
            last_resort: false,
        };
        Target { account: account.clone(), packages: Some(vec![package; packages]), problem: None }
    }

    #[test]
    fn a_server_is_believed_about_those_that_it_was_asked_for_and_nobody_else() {
        let (bob, carol, mallory) = (did("did:plc:bob"), did("did:plc:carol"), did("did:plc:mallory"));
        let server = did("did:web:b.example");
        let answer = Ok(vec![with(&bob, 1), with(&mallory, 1), with(&bob, 2)]);
        let told = told(&server, vec![bob.clone(), carol.clone()], answer);
        assert_eq!(told.len(), 2);
        assert_eq!(told[&bob].packages.as_ref().unwrap().len(), 1, "its first word");
        assert_eq!(told[&carol].problem.as_deref(), Some(UNAVAILABLE));
    }

    #[test]
    fn an_answer_that_does_not_hold_together_is_none() {
        let bob = did("did:plc:bob");
        assert!(holds_together(&with(&bob, 50)) && !holds_together(&with(&bob, 51)) && !holds_together(&with(&bob, 0)));
        let mut both = with(&bob, 1);
        both.problem = Some("moved".to_owned());
        assert!(!holds_together(&both));
        let mut long = with(&bob, 1);
        long.packages.as_mut().unwrap()[0].key_package = Bytes(vec![1; (16 << 10) + 1]);
        assert!(!holds_together(&long));
    }

    #[test]
    fn one_servers_part_of_a_claim_has_a_name_of_its_own() {
        let (one, two) = (did("did:web:a.example"), did("did:web:b.example"));
        let bob = [did("did:plc:bob")];
        let name = claim_id("b6f0c1d2-7a44-4d1e-9c55-0c1f0a7e3d21", &one, &bob);
        assert_eq!(name, claim_id("b6f0c1d2-7a44-4d1e-9c55-0c1f0a7e3d21", &one, &bob));
        assert_ne!(name, claim_id("b6f0c1d2-7a44-4d1e-9c55-0c1f0a7e3d21", &two, &bob));
        assert_ne!(name, claim_id("b6f0c1d2-7a44-4d1e-9c55-0c1f0a7e3d21", &one, &[]));
        assert!(crate::types::Idem::parse(&name).is_ok());
    }
}
