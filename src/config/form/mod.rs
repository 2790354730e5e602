//! How single values are written: each form reads a text and shows a value the same way.

mod text;

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use super::problem::did_you_mean;
use super::shown::Shown;

pub(super) use text::*;

/// A way to write values of one type.
pub(super) trait Form {
    type Value;
    /// The value of a text.
    ///
    /// # Errors
    /// What would be right.
    fn read(&self, text: &str) -> Result<Self::Value, String>;
    /// The value as `check --print` writes it; [`Form::read`] takes it back.
    fn show(&self, value: &Self::Value) -> Shown;
}

pub(super) struct Flag;

impl Form for Flag {
    type Value = bool;
    fn read(&self, text: &str) -> Result<bool, String> {
        text.parse().map_err(|_| "must be true or false".to_owned())
    }
    fn show(&self, value: &bool) -> Shown {
        Shown::Bool(*value)
    }
}

/// A whole number between two bounds, both included.
pub(super) struct Number<T>(pub(super) T, pub(super) T);

impl<T: FromStr + PartialOrd + Display + Copy + TryInto<i64>> Form for Number<T> {
    type Value = T;
    fn read(&self, text: &str) -> Result<T, String> {
        match text.parse() {
            Ok(number) if number >= self.0 && number <= self.1 => Ok(number),
            _ => Err(format!(
                "must be a whole number from {} to {}",
                self.0, self.1
            )),
        }
    }
    fn show(&self, value: &T) -> Shown {
        Shown::Int((*value).try_into().unwrap_or(i64::MAX))
    }
}

/// Any 32-bit count.
pub(super) const COUNT: Number<u32> = Number(0, u32::MAX);
/// A 32-bit count of at least one.
pub(super) const SOME: Number<u32> = Number(1, u32::MAX);
/// An order: lower goes first.
pub(super) const RANK: Number<i32> = Number(-1_000_000, 1_000_000);
/// A count of things held in memory.
pub(super) const MANY: Number<usize> = Number(0, 1 << 40);

/// An amount of money or of anything else that may be a fraction; never negative.
pub(super) struct Amount;

impl Form for Amount {
    type Value = f64;
    fn read(&self, text: &str) -> Result<f64, String> {
        let amount = text
            .parse::<f64>()
            .ok()
            .filter(|amount| amount.is_finite() && *amount >= 0.0);
        amount.ok_or_else(|| "must be a number, 0 or more".to_owned())
    }
    fn show(&self, value: &f64) -> Shown {
        if value.fract() == 0.0 && *value < 1e15 {
            Shown::Int(*value as i64)
        } else {
            Shown::Float(*value)
        }
    }
}

/// `20%` -> 0.2.
pub(super) struct Percent;

impl Form for Percent {
    type Value = f64;
    fn read(&self, text: &str) -> Result<f64, String> {
        let share = text
            .strip_suffix('%')
            .and_then(|number| number.trim().parse::<f64>().ok());
        match share {
            Some(share) if (0.0..=100.0).contains(&share) => Ok(share / 100.0),
            _ => Err("must be a share from 0% to 100%, such as 20%".to_owned()),
        }
    }
    fn show(&self, value: &f64) -> Shown {
        // Rounded to what a person writes: 0.07 * 100 is not 7 in binary.
        Shown::text(format!("{}%", (value * 1e8).round() / 1e6))
    }
}

/// `250ms`, `30s`, `5m`, `24h`, `7d`, of at least the given length.
pub(super) struct Span(Duration);

/// Any span, zero included.
pub(super) const SPAN: Span = Span(Duration::ZERO);
/// A span that must not be zero.
pub(super) const REAL_SPAN: Span = Span(Duration::from_millis(1));

/// Longest first, in milliseconds.
const TIME_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];
/// A hundred years: beyond it only typing errors live, and sums of times stay representable.
const LONGEST: u64 = 36_500 * 86_400_000;

impl Form for Span {
    type Value = Duration;
    fn read(&self, text: &str) -> Result<Duration, String> {
        let span = if text == "0" {
            Some(0)
        } else {
            with_unit(text, &TIME_UNITS)
        };
        match span {
            Some(millis) if millis > LONGEST => Err("must be at most 36500d".to_owned()),
            Some(millis) if millis < self.0.as_millis() as u64 => {
                Err(format!("must be at least {}ms", self.0.as_millis()))
            }
            Some(millis) => Ok(Duration::from_millis(millis)),
            None => Err("must be a time with its unit: 250ms, 30s, 5m, 24h or 7d".to_owned()),
        }
    }
    fn show(&self, value: &Duration) -> Shown {
        let millis = value.as_millis() as u64;
        let fits = |(_, unit): &&(&str, u64)| millis.is_multiple_of(*unit);
        match TIME_UNITS.iter().find(fits) {
            Some((name, unit)) if millis > 0 => Shown::text(format!("{}{name}", millis / unit)),
            _ => Shown::text("0s"),
        }
    }
}

/// `64KiB`, `16MiB`, of at least the given number of bytes.
pub(super) struct Size(pub(super) u64);

const SIZE_UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

impl Form for Size {
    type Value = u64;
    fn read(&self, text: &str) -> Result<u64, String> {
        let size = if text == "0" {
            Some(0)
        } else {
            with_unit(text, &SIZE_UNITS)
        };
        match size {
            Some(bytes) if bytes < self.0 => Err(format!("must be at least {}B", self.0)),
            Some(bytes) if bytes <= 1 << 50 => Ok(bytes),
            Some(_) => Err("must be at most 1048576GiB".to_owned()),
            None => Err("must be a size with its unit: 512B, 64KiB, 16MiB or 1GiB".to_owned()),
        }
    }
    fn show(&self, value: &u64) -> Shown {
        match SIZE_UNITS
            .iter()
            .find(|(_, unit)| value.is_multiple_of(*unit))
        {
            Some((name, unit)) if *value > 0 => Shown::text(format!("{}{name}", value / unit)),
            _ => Shown::text("0B"),
        }
    }
}

/// A whole number and one of `units`, multiplied.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// One word of a closed set; the first word of a value is its name, later ones are aliases.
pub(super) struct Words<T: 'static>(pub(super) &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Form for Words<T> {
    type Value = T;
    fn read(&self, text: &str) -> Result<T, String> {
        if let Some((_, value)) = self.0.iter().find(|(word, _)| *word == text) {
            return Ok(*value);
        }
        let words: Vec<&str> = self.0.iter().map(|(word, _)| *word).collect();
        Err(format!(
            "must be one of {}{}",
            words.join(", "),
            did_you_mean(text, words)
        ))
    }
    fn show(&self, value: &T) -> Shown {
        let name = self
            .0
            .iter()
            .find(|(_, known)| known == value)
            .map_or("", |(word, _)| *word);
        match name {
            "true" => Shown::Bool(true),
            "false" => Shown::Bool(false),
            word => Shown::text(word),
        }
    }
}
