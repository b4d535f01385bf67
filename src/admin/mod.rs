//! The operators' listener: metrics, on an address of its own, never on the public port.

use std::sync::Arc;

use async_trait::async_trait;
use http::{Method, Response, StatusCode, header};
use pingora_core::apps::http_app::ServeHttp;
use pingora_core::protocols::http::ServerSession;

use crate::metrics::Metrics;

/// Prometheus' text format (prometheus.io, "Exposition formats").
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers operators.
pub struct Admin {
    metrics: Arc<Metrics>,
}

impl Admin {
    /// Shows `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics }
    }

    fn answer(&self, method: &Method, path: &str) -> (StatusCode, &'static str, Vec<u8>) {
        const TEXT: &str = "text/plain; charset=utf-8";
        match (path, method) {
            ("/metrics", &Method::GET) => match self.metrics.render() {
                Ok(text) => (StatusCode::OK, EXPOSITION, text),
                Err(error) => {
                    log::error!("the metrics cannot be written: {error}");
                    (StatusCode::INTERNAL_SERVER_ERROR, TEXT, Vec::new())
                }
            },
            ("/livez", &Method::GET) => (StatusCode::OK, TEXT, b"ok\n".to_vec()),
            ("/metrics" | "/livez", _) => (StatusCode::METHOD_NOT_ALLOWED, TEXT, Vec::new()),
            _ => (StatusCode::NOT_FOUND, TEXT, b"GET /metrics\n".to_vec()),
        }
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        let (status, content_type, body) = self.answer(&request.method, request.uri.path());
        let length = http::HeaderValue::from(body.len());
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
        headers.insert(header::CONTENT_LENGTH, length);
        response
    }
}
