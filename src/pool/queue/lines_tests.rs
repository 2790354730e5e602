//! The order of service against a plain list of those who wait, and what it costs.

use proptest::prelude::*;

use super::*;

fn wish(line: u8) -> Wish {
    let even = line.is_multiple_of(2);
    Wish {
        only: (!even).then(|| Arc::from(format!("account_{line}"))),
        view: 0,
        model: Some(Arc::from(format!("model_{line}"))),
        tried: Tried::new(),
        counts: true,
    }
}

fn turn(leased: Option<()>) -> Turn<()> {
    leased.map_or(Turn::Nobody, Turn::Leased)
}

/// Somebody who waits, as the model knows it.
#[derive(Clone, Debug)]
struct Plain {
    id: u32,
    who: Who,
    line: u8,
}

/// Keys in the order of their turns, and everybody in the order of arrival.
#[derive(Default)]
struct Model {
    waiters: Vec<Plain>,
    turns: Vec<Who>,
}

impl Model {
    fn join(&mut self, it: Plain) {
        if !self.turns.contains(&it.who) {
            self.turns.push(it.who);
        }
        self.waiters.push(it);
    }

    fn remove(&mut self, id: u32) {
        self.waiters.retain(|it| it.id != id);
        let waiters = &self.waiters;
        self.turns
            .retain(|who| waiters.iter().any(|it| it.who == *who));
    }

    /// The next of those who stand in these lines.
    fn serve(&mut self, lines: &[u8]) -> Option<u32> {
        let turn = |who| self.turns.iter().position(|it| *it == who);
        let may = self.waiters.iter().filter(|it| lines.contains(&it.line));
        let next = may.min_by_key(|it| (it.who.0, turn(it.who)))?.clone();
        self.turns.retain(|who| *who != next.who);
        self.turns.push(next.who);
        self.remove(next.id);
        Some(next.id)
    }

    /// The last of the greediest key, unless `who` has as much.
    fn displace(&mut self, who: Who) -> Option<u32> {
        let count = |who| self.waiters.iter().filter(|it| it.who == who).count();
        let most = self
            .turns
            .iter()
            .max_by_key(|it| (it.0, count(**it), it.1))?;
        let fair = most.0 > who.0 || (most.0 == who.0 && count(*most) > count(who) + 1);
        let of_most = |it: &&Plain| it.who == *most;
        let last = self.waiters.iter().rfind(of_most).filter(|_| fair)?.id;
        self.remove(last);
        Some(last)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Join(Who, u8),
    /// Of those who wait, by their place in the order of arrival.
    Leave(prop::sample::Index),
    /// Accounts for so many come free that serve these lines.
    Serve(Vec<u8>, usize),
    Displace(Who),
    /// What is known of models changes, and what was said of it changes back.
    LineUp,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = || (0..3i32, 0..5u64);
    let step = prop_oneof![
        6 => (who(), 0..5u8).prop_map(|(who, line)| Step::Join(who, line)),
        2 => any::<prop::sample::Index>().prop_map(Step::Leave),
        2 => (prop::collection::vec(0..5u8, 0..5), 0..6usize)
            .prop_map(|(lines, places)| Step::Serve(lines, places)),
        1 => who().prop_map(Step::Displace),
        1 => Just(Step::LineUp),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    #[test]
    fn whoever_comes_and_goes_the_next_is_whom_a_plain_list_says(steps in steps()) {
        let mut lines = Lines::<(u32, u8)>::default();
        let mut model = Model::default();
        let mut tickets = HashMap::new();
        for (id, step) in (0..).zip(steps) {
            match step {
                Step::Join(who, line) => {
                    tickets.insert(id, lines.join(wish(line), who, (id, line)));
                    model.join(Plain { id, who, line });
                }
                Step::Leave(which) if !model.waiters.is_empty() => {
                    let id = which.get(&model.waiters).id;
                    model.remove(id);
                    prop_assert_eq!(lines.leave(&tickets[&id]).map(|it| it.0), Some(id));
                    prop_assert!(lines.leave(&tickets[&id]).is_none());
                }
                Step::Leave(_) => {}
                Step::Serve(open, places) => {
                    let left = std::cell::Cell::new(places);
                    let take = |it: &(u32, u8)| {
                        let fits = open.contains(&it.1) && left.get() > 0;
                        turn(fits.then(|| left.set(left.get() - 1)))
                    };
                    let served = lines.serve(&Look::All, take, || left.get() == 0);
                    let served: Vec<u32> = served.into_iter().map(|(it, ())| it.0).collect();
                    let expected: Vec<u32> = (0..places).map_while(|_| model.serve(&open)).collect();
                    prop_assert_eq!(served, expected);
                }
                Step::LineUp => {
                    lines.line_up(|it| wish(it.1 % 2));
                    lines.line_up(|it| wish(it.1));
                }
                Step::Displace(who) => {
                    prop_assert_eq!(lines.displace(who).map(|it| it.0), model.displace(who));
                }
            }
            prop_assert_eq!(lines.waiting(), model.waiters.len());
        }
    }
}

const FIRST: Who = (0, 1);

/// How often `lease` is asked until `places` are taken by those who stand in `line`.
fn looks(lines: &mut Lines<u8>, look: &Look<'_>, line: u8, places: usize) -> usize {
    let (asked, left) = (std::cell::Cell::new(0), std::cell::Cell::new(places));
    let lease = |it: &u8| {
        asked.set(asked.get() + 1);
        turn((*it == line && left.get() > 0).then(|| left.set(left.get() - 1)))
    };
    let served = lines.serve(look, lease, || left.get() == 0);
    assert_eq!(served.len(), places);
    asked.get()
}

#[test]
fn an_account_that_comes_free_costs_as_much_behind_ten_thousand_as_behind_two() {
    let mut lines = Lines::default();
    for key in 0..10_000 {
        lines.join(wish(0), (0, key % 7), 0);
        lines.join(wish(2), (0, key % 7), 2);
    }
    for account in 0..1_000u32 {
        let only = Some(Arc::from(format!("other_{account}")));
        lines.join(Wish { only, ..wish(1) }, FIRST, 1);
    }
    assert_eq!(looks(&mut lines, &Look::Freed("none"), 2, 1), 2);
    // Of those who may have one account alone, only that account's are asked.
    assert_eq!(looks(&mut lines, &Look::Freed("other_7"), 1, 1), 3);
    let ticket = lines.join(wish(4), FIRST, 4);
    assert_eq!(looks(&mut lines, &Look::Joined(&ticket), 4, 1), 1);
}

#[test]
fn one_key_with_a_thousand_models_has_no_more_turns_than_one_with_a_request() {
    let mut lines = Lines::default();
    for model in 0..1_000u32 {
        let model = Some(Arc::from(format!("invented_{model}")));
        lines.join(Wish { model, ..wish(0) }, FIRST, "greedy");
    }
    lines.join(wish(0), (0, 2), "modest");
    let turns = std::cell::Cell::new(0);
    let two = |_: &&str| turn((turns.get() < 2).then(|| turns.set(turns.get() + 1)));
    let served = lines.serve(&Look::All, two, || turns.get() == 2);
    let served: Vec<&str> = served.into_iter().map(|(it, ())| it).collect();
    assert_eq!(served, ["greedy", "modest"]);
}

#[test]
fn smaller_ones_of_other_keys_pass_one_that_does_not_fit_and_it_keeps_its_place() {
    let mut lines = Lines::default();
    for (key, name) in [(1, "large"), (1, "small"), (2, "tiny"), (3, "little")] {
        lines.join(wish(0), (0, key), name);
    }
    let fits = |name: &&str| match *name {
        "large" => Turn::NotThis,
        _ => Turn::Leased(()),
    };
    let names = |served: Vec<(&'static str, ())>| -> Vec<&str> {
        served.into_iter().map(|(name, ())| name).collect()
    };
    let served = lines.serve(&Look::All, fits, || true);
    assert_eq!(names(served), ["tiny"], "one after the other key");
    let served = lines.serve(&Look::All, fits, || false);
    assert_eq!(names(served), ["little"], "its own wait behind it");
    // Who is out of patience is passed by nobody.
    lines.join(wish(0), (0, 3), "late");
    let waits = lines.serve(&Look::All, |_| Turn::<()>::Nobody, || false);
    assert!(waits.is_empty());
    let all = lines.serve(&Look::All, |_| Turn::Leased(()), || false);
    assert_eq!(names(all), ["large", "late", "small"]);
}

#[test]
fn of_a_crowd_that_does_not_fit_few_are_asked() {
    let mut lines = Lines::default();
    for key in 0..1_000 {
        for _ in 0..10 {
            lines.join(wish(0), (0, key), ());
        }
    }
    let asked = std::cell::Cell::new(0);
    let none = |(): &()| {
        asked.set(asked.get() + 1);
        Turn::<()>::NotThis
    };
    assert!(lines.serve(&Look::All, none, || false).is_empty());
    assert_eq!(asked.get(), MOST_PASSED);
}

#[test]
fn those_who_wait_in_vain_are_told_and_the_others_stay() {
    let mut lines = Lines::default();
    for line in [0, 0, 1, 2] {
        lines.join(wish(line), FIRST, line);
    }
    let mut told = lines.dismiss(|line| (*line != 2).then_some("gone"), |line, _| *line < 2);
    told.sort_unstable();
    assert_eq!(told, [(0, "gone"), (0, "gone"), (1, "gone")]);
    assert_eq!(lines.waiting(), 1);
}

#[test]
fn the_memory_of_a_crowd_is_given_back_with_its_last() {
    let mut lines = Lines::default();
    let tickets: Vec<Ticket> = (0..10_000u64)
        .map(|key| lines.join(wish((key % 5) as u8), (0, key), key))
        .collect();
    assert!(lines.lines.anyone.capacity() > 0);
    let left = tickets.iter().filter_map(|ticket| lines.leave(ticket));
    assert_eq!(left.count(), 10_000);
    assert_eq!(lines.waiting(), 0);
    let All { anyone, named } = &lines.lines;
    assert_eq!((anyone.capacity(), named.capacity()), (0, 0));
}
