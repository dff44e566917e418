//! The table of routes: each says what its asker needs, or it can't be made.

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, on};

use super::access::Role;
use super::{Node, Shared};

/// What who asks needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing: it is for monitors, which ask by the names of hosts, and what they ask for orders nothing.
    Nothing,
    /// A role, unless the configuration says otherwise; for monitors too.
    Metrics,
    /// No token: a browser has none yet.
    Page,
    /// A token of that role or a higher one.
    Role(Role),
}

/// One method of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) need: Need,
    /// Whether it is an order, for the log. What only some of its requests change, these say ([`super::access::Asker::orders`]).
    pub(super) changes: bool,
}

/// Routes, and the table of them.
pub(super) struct Routes<N> {
    router: Router<Shared<N>>,
    table: Vec<Operation>,
}

impl<N: Node> Routes<N> {
    pub(super) fn new() -> Self {
        Routes { router: Router::new(), table: Vec::new() }
    }

    /// GET, which changes nothing.
    pub(super) fn get<H: Handler<T, Shared<N>>, T: 'static>(self, path: &'static str, need: Need, handler: H) -> Self {
        self.add(Method::GET, path, need, false, handler)
    }

    /// POST that changes nothing, or only if the request says so.
    pub(super) fn ask<H: Handler<T, Shared<N>>, T: 'static>(self, path: &'static str, need: Need, handler: H) -> Self {
        self.add(Method::POST, path, need, false, handler)
    }

    /// POST of an order.
    pub(super) fn post<H: Handler<T, Shared<N>>, T: 'static>(self, path: &'static str, role: Role, handler: H) -> Self {
        self.add(Method::POST, path, Need::Role(role), true, handler)
    }

    /// PUT of an order.
    pub(super) fn put<H: Handler<T, Shared<N>>, T: 'static>(self, path: &'static str, role: Role, handler: H) -> Self {
        self.add(Method::PUT, path, Need::Role(role), true, handler)
    }

    fn add<H, T>(mut self, method: Method, path: &'static str, need: Need, changes: bool, handler: H) -> Self
    where
        H: Handler<T, Shared<N>>,
        T: 'static,
    {
        let (name, filter) = match method {
            Method::GET => ("GET", MethodFilter::GET),
            Method::PUT => ("PUT", MethodFilter::PUT),
            _ => ("POST", MethodFilter::POST),
        };
        self.table.push(Operation { method: name, path, need, changes });
        Routes { router: self.router.route(path, on(filter, handler)), table: self.table }
    }

    pub(super) fn merge(mut self, other: Self) -> Self {
        self.table.extend(other.table);
        Routes { router: self.router.merge(other.router), table: self.table }
    }

    pub(super) fn into_parts(self) -> (Router<Shared<N>>, Vec<Operation>) {
        (self.router, self.table)
    }
}
