//! The latest requests that somebody looks for: by key, account, status, model.

use sqlx::AssertSqlSafe;
use wildmatch::WildMatch;

use super::requests::COLUMNS;
use super::{RequestRecord, Store, StoreError};

/// What is looked for; what is not said is all.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Ids of keys, one of which it is.
    pub keys: Option<Vec<String>>,
    /// It was asked, whoever answered in the end.
    pub account: Option<String>,
    /// The first and the last.
    pub status: Option<(i64, i64)>,
    /// `*` stands for any run of characters.
    pub model: Option<String>,
    /// Only those before this one: when it began, and its row.
    pub before: Option<(i64, i64)>,
}

impl Wanted {
    /// Is it one of them?
    pub fn is(&self, request: &RequestRecord) -> bool {
        let asked = |account: &String| {
            let mut tries = request
                .tries
                .split(',')
                .filter_map(|one| one.split_once(':'));
            tries.any(|(tried, _)| tried == account)
        };
        let model = request.model.as_deref().unwrap_or_default();
        self.keys
            .as_ref()
            .is_none_or(|keys| keys.contains(&request.key))
            && self.account.as_ref().is_none_or(asked)
            && self
                .status
                .is_none_or(|(from, to)| (from..=to).contains(&request.status))
            && self
                .model
                .as_ref()
                .is_none_or(|name| WildMatch::new(name).matches(model))
            && self
                .before
                .is_none_or(|before| (request.began, request.id) < before)
    }
}

/// Conditions of a statement, and what they are about.
#[derive(Default)]
struct Conditions {
    sql: Vec<String>,
    texts: Vec<String>,
}

impl Conditions {
    /// The place of a text in the statement; the first four are numbers.
    fn text(&mut self, text: String) -> String {
        self.texts.push(text);
        format!("${}", 5 + self.texts.len())
    }

    fn of(wanted: &Wanted) -> Self {
        let mut all = Conditions::default();
        // Nothing is after these, so that the statement is nearly always the same one.
        all.sql
            .push("(began < $1 OR (began = $1 AND id < $2))".to_owned());
        all.sql.push("status >= $3 AND status <= $4".to_owned());
        if let Some(keys) = &wanted.keys {
            let places: Vec<String> = keys.iter().map(|key| all.text(key.clone())).collect();
            all.sql.push(match places.is_empty() {
                true => "1 = 0".to_owned(),
                false => format!("key IN ({})", places.join(", ")),
            });
        }
        if let Some(account) = &wanted.account {
            let place = all.text(format!(",{account}:"));
            all.sql.push(format!(
                "replace(',' || tries, {place}, '') <> ',' || tries"
            ));
        }
        if let Some(model) = &wanted.model {
            let place = all.text(like(model));
            all.sql.push(format!("model LIKE {place} ESCAPE '!'"));
        }
        all
    }
}

/// The same pattern as SQL writes it.
fn like(pattern: &str) -> String {
    let mut like = String::new();
    for c in pattern.chars() {
        match c {
            '*' => like.push('%'),
            '?' => like.push('_'),
            '%' | '_' | '!' => like.extend(['!', c]),
            '\0' => {}
            c => like.push(c),
        }
    }
    like
}

impl Store {
    /// The latest of those that are wanted and kept, the latest first.
    ///
    /// # Errors
    /// The records cannot be read.
    pub async fn requests_like(
        &self,
        wanted: &Wanted,
        most: u32,
    ) -> Result<Vec<RequestRecord>, StoreError> {
        let told = |error| self.db.told("requests", &error);
        let conditions = Conditions::of(wanted);
        let sql = format!(
            "SELECT {} FROM requests WHERE {} ORDER BY began DESC, id DESC LIMIT $5",
            COLUMNS.join(", "),
            conditions.sql.join(" AND ")
        );
        let (began, id) = wanted.before.unwrap_or((i64::MAX, i64::MAX));
        let (first, last) = wanted.status.unwrap_or((0, i64::MAX));
        let query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
        let mut query = query
            .bind(began)
            .bind(id)
            .bind(first)
            .bind(last)
            .bind(i64::from(most));
        for text in conditions.texts {
            query = query.bind(text);
        }
        let rows = async {
            query
                .fetch_all(self.db.reading().await?)
                .await
                .map_err(told)
        };
        let rows = self.db.within(rows).await?;
        let rows = rows.iter().map(RequestRecord::read);
        rows.collect::<Result<_, _>>().map_err(told)
    }
}
