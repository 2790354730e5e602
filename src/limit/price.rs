//! What tokens cost, by the configured prices.

use wildmatch::WildMatch;

use crate::config;
use crate::dialect::Usage;

/// Money is counted in billionths of the unit that prices are written in.
pub const BILLION: f64 = 1e9;

/// What one request may cost. Prices that cannot be meant, and amounts that no vendor can mean, come to more, and
/// would fill the sums that they are added to.
const DEAREST: u64 = 1_000_000 * BILLION as u64;

/// Of one model, in billionths a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    input: f64,
    cached: f64,
    output: f64,
}

/// The price list.
#[derive(Debug, Default)]
pub struct Prices(Vec<(WildMatch, Price)>);

impl Prices {
    pub fn of(prices: &[config::Price]) -> Self {
        // Written per million tokens.
        let each = |price: f64| price * (BILLION / 1e6);
        let entry = |price: &config::Price| {
            let models = WildMatch::new(&price.models);
            let price = Price {
                input: each(price.input),
                cached: each(price.cached),
                output: each(price.output),
            };
            (models, price)
        };
        Prices(prices.iter().map(entry).collect())
    }

    /// The first entry that the model's name is like. None: what it costs is not known.
    pub fn of_model(&self, model: &str) -> Option<Price> {
        let mut entries = self.0.iter();
        let entry = entries.find(|(models, _)| models.matches(model));
        entry.map(|(_, price)| *price)
    }
}

impl Prices {
    /// What a model costs whose name is not known for sure: each kind of token at its dearest.
    pub fn dearest(&self) -> Option<Price> {
        let prices = self.0.iter().map(|(_, price)| *price);
        prices.reduce(|a, b| Price {
            input: a.input.max(b.input),
            cached: a.cached.max(b.cached),
            output: a.output.max(b.output),
        })
    }
}

impl Price {
    /// In billionths; cached tokens are a part of the input.
    pub fn cost(&self, usage: &Usage) -> u64 {
        let cached = usage.cached.min(usage.input);
        let fresh = usage.input - cached;
        let cost = fresh as f64 * self.input
            + cached as f64 * self.cached
            + usage.output as f64 * self.output;
        (cost.round() as u64).min(DEAREST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> Prices {
        let price = |models: &str, input, cached, output| config::Price {
            models: models.to_owned(),
            input,
            cached,
            output,
        };
        Prices::of(&[
            price("gpt-5-mini", 0.25, 0.025, 2.0),
            price("gpt-5*", 1.25, 0.125, 10.0),
        ])
    }

    #[test]
    fn the_first_entry_that_fits_is_the_price_and_cached_tokens_have_their_own() {
        let usage = Usage {
            input: 1_000_000,
            output: 100_000,
            cached: 400_000,
        };
        let cost = |model| list().of_model(model).map(|price| price.cost(&usage));
        // 0.6 × 1.25 + 0.4 × 0.125 + 0.1 × 10 = 1.8
        assert_eq!(cost("gpt-5.1"), Some(1_800_000_000));
        // 0.6 × 0.25 + 0.4 × 0.025 + 0.1 × 2 = 0.36
        assert_eq!(cost("gpt-5-mini"), Some(360_000_000));
        assert_eq!(cost("claude"), None);
    }

    #[test]
    fn one_token_of_the_cheapest_model_is_not_for_nothing() {
        let usage = Usage {
            input: 0,
            output: 0,
            cached: 0,
        };
        let one = Usage { input: 1, ..usage };
        let price = list().of_model("gpt-5-mini").unwrap();
        assert_eq!((price.cost(&usage), price.cost(&one)), (0, 250));
    }

    #[test]
    fn an_amount_that_cannot_be_meant_leaves_room_for_others() {
        let output = 1_000_000_000_000;
        let absurd = Usage {
            input: 0,
            output,
            cached: 0,
        };
        let price = list().of_model("gpt-5").unwrap();
        assert!(price.cost(&absurd) <= i64::MAX as u64 / 1_000);
    }
}
