//! Pages of lists that are numbered by their rows, newest first.

use aim_common::api::Page;

use super::problem::ApiError;

/// Rows of a page unless the request says otherwise.
const DEFAULT_LIMIT: u32 = 100;
/// Most rows of a page (API-02).
const MAX_LIMIT: u32 = 1_000;

/// A checked wish for one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    /// At most so many rows.
    pub limit: u32,
    /// Only rows below this number.
    pub before: Option<i64>,
}

impl PageRequest {
    /// Checks the query's two parameters.
    pub fn new(limit: Option<u32>, cursor: Option<&str>) -> Result<Self, ApiError> {
        let limit = limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(ApiError::invalid("limit", "a page has 1 to 1,000 items"));
        }
        let wrong = |_| ApiError::invalid("cursor", "give the next_cursor of the former page as it was");
        let before = cursor.map(str::parse).transpose().map_err(wrong)?;
        Ok(Self { limit, before })
    }

    /// The page of these rows; `number` is what the cursor counts.
    pub fn page<T>(self, items: Vec<T>, total: Option<i64>, number: impl Fn(&T) -> i64) -> Page<T> {
        let full = u32::try_from(items.len()).is_ok_and(|count| count == self.limit);
        let next_cursor = items.last().filter(|_| full).map(|last| number(last).to_string());
        Page { items, next_cursor, total: total.map(i64::unsigned_abs) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_02_a_page_has_at_most_a_thousand_items() {
        assert_eq!(PageRequest::new(None, None).unwrap(), PageRequest { limit: 100, before: None });
        assert_eq!(
            PageRequest::new(Some(1_000), Some("7")).unwrap(),
            PageRequest { limit: 1_000, before: Some(7) }
        );
        assert!(PageRequest::new(Some(1_001), None).is_err());
        assert!(PageRequest::new(Some(0), None).is_err());
        assert!(PageRequest::new(None, Some("7 OR 1=1")).is_err());
    }

    #[test]
    fn only_a_full_page_has_a_next_one() {
        let wanted = PageRequest { limit: 2, before: None };
        assert_eq!(wanted.page(vec![9_i64, 8], Some(5), |row| *row).next_cursor.as_deref(), Some("8"));
        assert_eq!(wanted.page(vec![9_i64], Some(1), |row| *row).next_cursor, None);
    }
}
