//! The order of events of an answer with several choices: these take turns, each until its end.

use std::ops::Range;

/// Whose token is next.
pub(super) struct Turns {
    /// Tokens of each choice that were told, and all that it has.
    choices: Vec<(usize, usize)>,
    /// Who is next, if it has not ended.
    next: usize,
    /// Whether nobody had a turn in this round.
    opens: bool,
    /// Choices that have not ended.
    left: usize,
}

/// Tokens of one choice, told in one event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) choice: usize,
    /// Counted from the first of the choice.
    pub(super) places: Range<usize>,
    /// Whether it is the first of its round.
    pub(super) opens: bool,
}

impl Turns {
    /// Choices of so many tokens each.
    pub(super) fn new(lengths: Vec<usize>) -> Self {
        let choices: Vec<_> = lengths.into_iter().map(|length| (0, length)).collect();
        let left = choices.iter().filter(|(_, length)| *length > 0).count();
        Self { choices, next: 0, opens: true, left }
    }

    /// The next turn, which tells of the choice's tokens up to the place that `end_of` names for the choice and its next
    /// token; none when all have ended.
    pub(super) fn next(&mut self, end_of: impl Fn(usize, usize) -> usize) -> Option<Turn> {
        if self.left == 0 {
            return None;
        }
        loop {
            if self.next == self.choices.len() {
                self.next = 0;
                self.opens = true;
            }
            let choice = self.next;
            self.next += 1;
            let (told, length) = &mut self.choices[choice];
            if told == length {
                continue;
            }
            let places = *told..end_of(choice, *told).clamp(*told + 1, *length);
            *told = places.end;
            self.left -= usize::from(told == length);
            return Some(Turn { choice, places, opens: std::mem::take(&mut self.opens) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_take_turns_until_each_has_ended() {
        let mut turns = Turns::new(vec![1, 3, 0, 2]);
        let all = std::iter::from_fn(|| turns.next(|_, from| from + 1));
        let all: Vec<_> =
            all.map(|turn| (turn.choice, turn.places.start, turn.opens)).collect();
        let rounds = [
            (0, 0, true),
            (1, 0, false),
            (3, 0, false),
            (1, 1, true),
            (3, 1, false),
            (1, 2, true),
        ];
        assert_eq!(all, rounds);
    }

    #[test]
    fn a_turn_has_at_least_one_token_and_no_more_than_there_are() {
        let mut turns = Turns::new(vec![3]);
        assert_eq!(turns.next(|_, _| 0).map(|turn| turn.places), Some(0..1));
        assert_eq!(turns.next(|_, _| 9).map(|turn| turn.places), Some(1..3));
        assert_eq!(turns.next(|_, _| 9), None);
    }
}
