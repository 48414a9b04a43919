use std::time::Duration;

use super::{Budget, Budgets};
use crate::config::Rate;
use crate::types::{Clock, UnixMillis};

fn rate(quantity: u32, seconds: u64) -> Rate {
    Rate { quantity: quantity.try_into().unwrap(), period: Duration::from_secs(seconds) }
}

fn clock() -> Clock {
    Clock::manual(UnixMillis(1_795_000_000_000))
}

#[test]
fn what_is_spent_comes_back_with_time_and_never_beyond_the_quantity() {
    let clock = clock();
    let budget = Budget::new(rate(20, 1), &clock);
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
    let budgets = Budgets::new(rate(4, 60), &clock);
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
    let budgets = Budgets::new(rate(3, 30), &clock);
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
    let budgets = Budgets::new(rate(2, 60), &clock());
    for key in 0..200 {
        assert_eq!((0..5).filter(|_| budgets.take(&key).refused_for.is_none()).count(), 2);
    }
}

#[test]
fn a_stranger_who_invents_keys_costs_no_more_memory_and_does_not_free_a_key_in_use() {
    let budgets = Budgets::keeping(rate(2, 60), &clock(), 1000);
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
