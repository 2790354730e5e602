//! Lists in pages: `{"<name>":[…],"next":cursor|null}`.

use serde::Deserialize;
use utoipa::IntoParams;

use super::reply::Problem;

const DEFAULT: usize = 100;
const MOST: usize = 1000;

/// `?limit=…&cursor=…`
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// Items of one page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

impl Page {
    /// The page that other words asked for.
    pub(super) fn at(limit: Option<usize>, cursor: Option<String>) -> Self {
        Page { limit, cursor }
    }

    /// How many items were asked for.
    pub(super) fn most(&self) -> Result<usize, Problem> {
        let limit = self.limit.unwrap_or(DEFAULT);
        match (1..=MOST).contains(&limit) {
            true => Ok(limit),
            false => Err(Problem::bad("limit", "must be 1 to 1000")),
        }
    }

    pub(super) fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// The page of `items` that was asked for, and the cursor of the next one: the id of the last item,
    /// so that items added or removed elsewhere in between shift nothing.
    pub(super) fn cut<'a, T>(
        &self,
        items: &'a [T],
        id: fn(&T) -> &str,
    ) -> Result<(&'a [T], Option<String>), Problem> {
        let limit = self.most()?;
        let start = match &self.cursor {
            None => 0,
            Some(cursor) => match items.iter().position(|item| id(item) == cursor) {
                Some(at) => at + 1,
                None => return Err(Problem::bad("cursor", "is not known any more; start again")),
            },
        };
        let end = items.len().min(start + limit);
        let next = (end < items.len()).then(|| id(&items[end - 1]).to_owned());
        Ok((&items[start..end], next))
    }
}

#[cfg(test)]
mod tests {
    use super::Page;

    fn page(limit: Option<usize>, cursor: Option<&str>) -> Option<(String, Option<String>)> {
        let items: Vec<String> = ["a", "b", "c"].map(String::from).to_vec();
        let page = Page {
            limit,
            cursor: cursor.map(String::from),
        };
        let (things, next) = page.cut(&items, |item| item).ok()?;
        Some((things.concat(), next))
    }

    #[test]
    fn following_the_cursor_shows_each_item_once() {
        let first = page(Some(2), None);
        assert_eq!(first, Some(("ab".to_owned(), Some("b".to_owned()))));
        assert_eq!(page(Some(2), Some("b")), Some(("c".to_owned(), None)));
        assert_eq!(page(None, None), Some(("abc".to_owned(), None)));
        assert_eq!(page(Some(3), None), Some(("abc".to_owned(), None)));
    }

    #[test]
    fn a_limit_or_cursor_that_makes_no_sense_is_refused() {
        assert!(page(Some(0), None).is_none());
        assert!(page(Some(1001), None).is_none());
        assert!(page(None, Some("gone")).is_none());
    }
}
