//! Who speaks to whom in a mesh and how, joined from what node proxies count and what the control
//! plane knows.

mod dot;
mod exposition;
mod flow;
mod graph;
mod inventory;
mod layout;
mod mermaid;
mod observatory;
mod page;
mod scrape;
mod series;
mod table;

pub(crate) use self::graph::Graph;
pub(crate) use self::mermaid::Mermaid;
pub(crate) use self::observatory::{Observatory, Sources};
pub(crate) use self::page::Page;
pub(crate) use self::scrape::{ScrapeError, get, post};
pub(crate) use self::table::Table;
