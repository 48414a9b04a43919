use std::time::Duration;

use super::{Budget, Budgets, InstanceCount, KeyedSlots, LimitScope};
use crate::config::Rate;
use crate::types::{Clock, UnixMillis};

fn rate(quantity: u32, seconds: u64) -> Rate {
    Rate { quantity: quantity.try_into().unwrap(), period: Duration::from_secs(seconds) }
}

fn clock() -> Clock {
    Clock::manual(UnixMillis(1_795_000_000_000))
}

fn scope(clock: &Clock) -> LimitScope {
    LimitScope::of_process(clock)
}

/// Scopes of that many instances which know of each other.
fn instances(clock: &Clock, count: u32) -> Vec<LimitScope> {
    let scope = || LimitScope { clock: clock.clone(), instances: InstanceCount::alone() };
    let scopes: Vec<_> = (0..count).map(|_| scope()).collect();
    for scope in &scopes {
        scope.instances.set(count);
    }
    scopes
}

#[test]
fn instances_together_grant_one_budget() {
    let clock = clock();
    for (count, quantity) in [(2, 20), (3, 20), (3, 1200), (5, 7)] {
        let budgets: Vec<_> =
            instances(&clock, count).iter().map(|scope| Budgets::new(rate(quantity, 60), scope)).collect();
        let spend = || budgets.iter().map(|budget| (0..2000).filter(|_| granted(budget)).count()).sum::<usize>();
        let (least, most) = ((quantity - quantity % count) as usize, quantity as usize);
        assert_eq!(spend(), least, "{count} instances, a burst");
        for _ in 0..10 {
            clock.advance_ms(60_000);
            let granted = spend();
            assert!((least..=most).contains(&granted), "{count} instances, {granted} of {quantity} in a period");
        }
    }
}

fn granted(budget: &Budgets<&'static str>) -> bool {
    budget.take(&"a").refused_for.is_none()
}

#[test]
fn every_instance_grants_one_of_a_small_budget() {
    let clock = clock();
    for scope in instances(&clock, 4) {
        let budget = Budgets::new(rate(2, 60), &scope);
        assert!(granted(&budget) && !granted(&budget));
        assert_eq!(budget.spent(&"a"), Some(budget.take(&"a")));
    }
}

#[test]
fn a_budget_follows_the_number_of_instances() {
    let clock = clock();
    let scope = scope(&clock);
    let budget = Budgets::new(rate(60, 60), &scope);
    let spend = || (0..200).filter(|_| granted(&budget)).count();
    assert_eq!(spend(), 60);
    scope.instances.set(3);
    clock.advance_ms(30_000);
    assert_eq!(spend(), 10, "a third of the regained budget");
    scope.instances.set(1);
    clock.advance_ms(30_000);
    assert_eq!(spend(), 30);
}

#[test]
fn work_larger_than_a_share_is_granted_once() {
    let clock = clock();
    let scope = &instances(&clock, 3)[0];
    let budget = Budgets::new(rate(30, 60), scope);
    let many = |quantity: u32| budget.take_many(&"a", quantity.try_into().unwrap()).refused_for;
    assert_eq!(many(31), Some(Duration::from_mins(1)), "never granted");
    assert_eq!(many(30), None);
    assert!(many(1).is_some());
}

#[tokio::test]
async fn instances_together_have_the_slots_of_one() {
    let count = InstanceCount::alone();
    let slots = KeyedSlots::shared(8, &count);
    let mut held = Vec::new();
    for (instances, slots_here) in [(1, 8), (2, 4), (3, 2), (8, 1), (20, 1)] {
        count.set(instances);
        while let Some(slot) = slots.take("a", Duration::ZERO).await {
            held.push(slot);
        }
        assert_eq!(held.len(), slots_here, "{instances} instances");
        held.clear();
    }
}

#[test]
fn what_is_spent_comes_back_with_time_and_never_beyond_the_quantity() {
    let clock = clock();
    let budget = Budget::new(rate(20, 1), &scope(&clock));
    let spend = || (0..100).filter(|_| budget.take().refused_for.is_none()).count();
    assert_eq!(spend(), 20);
    clock.advance_ms(49);
    assert_eq!(spend(), 0);
    clock.advance_ms(1);
    assert_eq!(spend(), 1);
    clock.advance_ms(3_600_000);
    assert_eq!(spend(), 20);
    clock.advance_ms(-60_000);
    assert_eq!(spend(), 0);
    clock.advance_ms(500);
    assert_eq!(spend(), 10);
}

#[test]
fn a_standing_says_what_is_left_and_when_to_come_back() {
    let clock = clock();
    let budgets = Budgets::new(rate(4, 60), &scope(&clock));
    for (remaining, full_in) in [(3, 15), (2, 30), (1, 45), (0, 60)] {
        let standing = budgets.take(&"a");
        assert_eq!((standing.remaining, standing.full_in.as_secs(), standing.refused_for), (remaining, full_in, None));
    }
    assert_eq!(budgets.take(&"a").refused_for, Some(Duration::from_secs(15)));
    clock.advance_ms(5000);
    let refused = budgets.take(&"a");
    assert_eq!((refused.remaining, refused.refused_for), (0, Some(Duration::from_secs(10))));
    clock.advance_ms(10_000);
    assert_eq!(budgets.take(&"a").refused_for, None);
}

#[test]
fn whoever_only_asks_takes_nothing_and_hears_the_same() {
    let clock = clock();
    let budgets = Budgets::new(rate(3, 30), &scope(&clock));
    assert_eq!(budgets.spent(&"a"), None);
    assert_eq!(budgets.keys(), 0, "asking keeps nothing");
    for _ in 0..3 {
        assert_eq!(budgets.spent(&"a"), None);
        assert_eq!(budgets.take(&"a").refused_for, None);
    }
    for wait in [10, 7, 4, 1] {
        let spent = budgets.spent(&"a").unwrap();
        assert_eq!(spent.refused_for, Some(Duration::from_secs(wait)));
        assert_eq!(spent, budgets.take(&"a"));
        clock.advance_ms(3000);
    }
    assert_eq!(budgets.spent(&"a"), None);
}

#[test]
fn one_key_takes_nothing_of_another_s() {
    let budgets = Budgets::new(rate(2, 60), &scope(&clock()));
    for key in 0..200 {
        assert_eq!((0..5).filter(|_| budgets.take(&key).refused_for.is_none()).count(), 2);
    }
}

#[test]
fn a_stranger_who_invents_keys_costs_no_more_memory_and_does_not_free_a_key_in_use() {
    let budgets = Budgets::keeping(rate(2, 60), &scope(&clock()), 1000);
    for _ in 0..3 {
        budgets.take(&0);
    }
    for key in 1..20_000_u32 {
        budgets.take(&key);
        if key % 100 == 0 {
            assert!(budgets.take(&0).refused_for.is_some(), "after {key} keys");
        }
    }
    assert!(budgets.keys() <= 1000, "{}", budgets.keys());
}
