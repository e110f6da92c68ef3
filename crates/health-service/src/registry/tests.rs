//! Scripts of inputs. A waker is the letter of its watcher.

use super::{HasCheck, MAX_LISTED, Next, Registry, Ticket, TooManyServices, TooManyWatchers};
use crate::status::ServingStatus::{self, NotServing, Serving, Unknown};

fn registry() -> Registry<char> {
    Registry::new(10)
}

fn watch(registry: &mut Registry<char>, name: &str) -> Ticket {
    registry.on_watch(name).expect("below the limit")
}

#[track_caller]
fn sends(registry: &mut Registry<char>, ticket: Ticket, status: Option<ServingStatus>) {
    assert_eq!(registry.on_poll(ticket, || '?'), Next::Send(status));
}

#[track_caller]
fn waits(registry: &mut Registry<char>, ticket: Ticket, waker: char) {
    let next = registry.on_poll(ticket, || waker);
    assert!(matches!(next, Next::Wait(_)), "{next:?}");
}

#[test]
fn the_server_serves_and_other_names_are_unknown() {
    let registry = registry();
    assert_eq!(registry.status(""), Some(Serving));
    assert_eq!(registry.status("a"), None);
    assert_eq!(registry.list(), Ok(vec![("", Serving)]));
}

#[test]
fn a_change_wakes_the_watchers_of_its_name_once() {
    let mut registry = registry();
    assert_eq!(registry.on_set("a", Serving), []);
    let a = watch(&mut registry, "a");
    let b = watch(&mut registry, "b");
    sends(&mut registry, a, Some(Serving));
    sends(&mut registry, b, None);
    waits(&mut registry, a, 'a');
    waits(&mut registry, b, 'b');
    assert_eq!(registry.on_set("a", Serving), []);
    assert_eq!(registry.on_set("a", NotServing), ['a']);
    assert_eq!(registry.on_set("a", Unknown), []);
    sends(&mut registry, a, Some(Unknown));
    assert_eq!(registry.on_set_all(Serving), []);
    assert_eq!(registry.on_set("b", Serving), ['b']);
}

#[test]
fn a_change_back_before_a_poll_sends_nothing() {
    let mut registry = registry();
    let server = watch(&mut registry, "");
    sends(&mut registry, server, Some(Serving));
    waits(&mut registry, server, 'a');
    assert_eq!(registry.on_set("", NotServing), ['a']);
    assert_eq!(registry.on_set("", Serving), []);
    waits(&mut registry, server, 'b');
}

#[test]
fn a_waker_that_is_replaced_is_handed_out() {
    let mut registry = registry();
    let server = watch(&mut registry, "");
    sends(&mut registry, server, Some(Serving));
    assert_eq!(registry.on_poll(server, || 'a'), Next::Wait(None));
    assert_eq!(registry.on_poll(server, || 'b'), Next::Wait(Some('a')));
    assert_eq!(registry.on_leave(server), Some('b'));
}

#[test]
fn a_name_without_status_and_watchers_is_forgotten() {
    let mut registry = registry();
    for _ in 0..3 {
        let tickets = ["a", "b", "b"].map(|name| watch(&mut registry, name));
        assert_eq!((registry.names.len(), registry.watchers()), (3, 3));
        for ticket in tickets {
            registry.on_leave(ticket);
        }
        assert_eq!((registry.names.len(), registry.ids.len()), (1, 1));
    }
    assert_eq!(registry.on_set("a", Serving), []);
    let a = watch(&mut registry, "a");
    assert_eq!(registry.on_clear("a"), []);
    sends(&mut registry, a, None);
    assert_eq!(registry.names.len(), 2);
    registry.on_leave(a);
    assert_eq!(registry.names.len(), 1);
    assert_eq!(registry.on_clear("a"), []);
}

#[test]
fn watchers_and_listed_services_have_limits() {
    let mut registry = Registry::<char>::new(2);
    let first = watch(&mut registry, "a");
    watch(&mut registry, "b");
    assert_eq!(registry.on_watch("a"), Err(TooManyWatchers));
    registry.on_leave(first);
    assert!(registry.on_watch("c").is_ok());
    for number in 1..MAX_LISTED {
        assert_eq!(registry.on_set(&number.to_string(), Serving), []);
    }
    assert_eq!(registry.list().map(|all| all.len()), Ok(MAX_LISTED));
    assert_eq!(registry.on_set("one more", Serving), []);
    assert_eq!(registry.list(), Err(TooManyServices));
}

#[test]
fn a_shutdown_ignores_what_is_set_until_it_is_resumed() {
    let mut registry = registry();
    assert_eq!(registry.on_set("a", Unknown), []);
    let unknown = watch(&mut registry, "b");
    sends(&mut registry, unknown, None);
    waits(&mut registry, unknown, 'b');
    assert_eq!(registry.on_shutdown(), []);
    assert_eq!(registry.on_set("a", Serving), []);
    assert_eq!(registry.on_set("b", Serving), []);
    assert_eq!(registry.on_set_all(Serving), []);
    assert_eq!(registry.on_clear("a"), []);
    let all = |registry: &Registry<char>| ["", "a", "b"].map(|name| registry.status(name));
    assert_eq!(all(&registry), [Some(NotServing), Some(NotServing), None]);
    assert_eq!(registry.on_resume(), []);
    assert_eq!(all(&registry), [Some(Serving), Some(Serving), None]);
    assert_eq!(registry.on_set("b", Serving), ['b']);
}

#[test]
fn a_name_has_one_check_at_a_time() {
    let mut registry = registry();
    let first = registry.on_check("a").expect("the first");
    assert_eq!(registry.on_check("a"), Err(HasCheck));
    assert!(registry.on_check("b").is_ok());
    assert_eq!(registry.on_check_result(first, Serving), []);
    assert_eq!(registry.status("a"), Some(Serving));

    registry.on_check_end(first);
    let second = registry.on_check("a").expect("the first has ended");
    assert_eq!(registry.on_check_result(first, NotServing), []);
    registry.on_check_end(first);
    assert_eq!(registry.status("a"), Some(Serving), "it has ended");
    assert_eq!(registry.on_check("a"), Err(HasCheck));
    assert_eq!(registry.on_check_result(second, NotServing), []);
    assert_eq!(registry.status("a"), Some(NotServing));
}

#[test]
fn a_name_with_a_check_is_not_forgotten() {
    let mut registry = registry();
    let check = registry.on_check("a").expect("the first");
    assert_eq!(registry.on_check_result(check, Serving), []);
    assert_eq!(registry.on_clear("a"), []);
    assert_eq!((registry.status("a"), registry.names.len()), (None, 2));
    assert_eq!(registry.on_check_result(check, Serving), []);
    assert_eq!(registry.status("a"), Some(Serving));
    assert_eq!(registry.on_clear("a"), []);
    registry.on_check_end(check);
    assert_eq!(registry.names.len(), 1);
    registry.on_check_end(check);
}

#[test]
fn a_drain_counts_watchers_until_they_have_taken_the_last_message() {
    let mut registry = registry();
    let asks = watch(&mut registry, "");
    let slow = watch(&mut registry, "");
    let leaves = watch(&mut registry, "");
    let unknown = watch(&mut registry, "a");
    sends(&mut registry, asks, Some(Serving));
    waits(&mut registry, asks, 'a');
    sends(&mut registry, unknown, None);
    waits(&mut registry, unknown, 'u');
    assert_eq!(registry.on_drain(), ['a']);
    assert_eq!(registry.untold(), 3, "an unknown name needs no message");
    let late = watch(&mut registry, "");
    assert_eq!(registry.untold(), 4);

    for ticket in [asks, slow, late] {
        sends(&mut registry, ticket, Some(NotServing));
    }
    assert_eq!(registry.untold(), 4, "given is not yet taken");
    waits(&mut registry, asks, 'a');
    waits(&mut registry, late, 'l');
    registry.on_leave(leaves);
    assert_eq!(registry.untold(), 1);
    assert_eq!(registry.on_drain(), [], "the second drain counts no more");
    assert_eq!(registry.on_resume(), []);
    assert_eq!(registry.on_shutdown(), []);
    assert_eq!(registry.status(""), Some(NotServing));

    let mut woken = registry.on_end();
    woken.sort_unstable();
    assert_eq!(woken, ['a', 'l', 'u']);
    for ticket in [asks, slow, late, unknown] {
        assert_eq!(registry.on_poll(ticket, || '?'), Next::End);
        registry.on_leave(ticket);
    }
    assert_eq!((registry.untold(), registry.watchers()), (0, 0));
}

#[test]
fn a_watch_after_the_end_has_one_message() {
    let mut registry = registry();
    assert_eq!(registry.on_end(), [], "an end comes after a drain");
    assert_eq!(registry.on_drain(), []);
    assert_eq!(registry.on_end(), []);
    let late = watch(&mut registry, "");
    sends(&mut registry, late, Some(NotServing));
    assert_eq!(registry.on_poll(late, || '?'), Next::End);
    assert_eq!(registry.on_resume(), []);
    assert_eq!(registry.status(""), Some(NotServing));
}
