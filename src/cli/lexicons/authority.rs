//! Who speaks for a group of NSIDs: the DID in a DNS record of its authority.

use std::collections::BTreeSet;

/// The name of the TXT record for `blue.catbird.mls.sendMessage`: `_lexicon.mls.catbird.blue`. Each group has its own;
/// none holds for what is below it.
pub(super) fn dns_name(nsid: &str) -> String {
    let mut labels: Vec<&str> = nsid.split('.').rev().skip(1).collect();
    labels.insert(0, "_lexicon");
    labels.join(".")
}

/// The names for all of them, each once, those above first.
pub(super) fn dns_names<'n>(nsids: impl Iterator<Item = &'n str>) -> Vec<String> {
    let names: BTreeSet<(usize, String)> = nsids.map(dns_name).map(|name| (name.matches('.').count(), name)).collect();
    names.into_iter().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::dns_names;
    use crate::lexicon::DOCUMENTS;

    #[test]
    fn every_group_has_a_name_of_its_own() {
        let names = dns_names(DOCUMENTS.iter().map(|(nsid, _)| *nsid));
        let groups = ["account.", "admin.", "event.", "mls.", "peer.", "server."]
            .map(|group| format!("_lexicon.{group}catbird.blue"));
        assert_eq!(names[0], "_lexicon.catbird.blue");
        assert_eq!(names[1..], groups);
    }
}
