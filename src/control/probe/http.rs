//! An HTTP probe: one request, and as much of its answer as the verdict needs.
//!
//! hyper speaks HTTP/1.1 here. Head, fields and body are bounded, and so is everything together, whatever is sent.

use std::{error::Error, io};

use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response,
    body::{Body, Bytes},
    client::conn::http1::Builder,
    header::{CONNECTION, HOST, HeaderName, HeaderValue, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::call::{Miss, Stage, miss};
use crate::{
    config::plan::health::HttpProbe,
    limits::{HEAD_BYTES_MAX, HEADERS_MAX, PROBE_BODY_BYTES_MAX},
};

/// All that is read of an answer: interim responses, head, a body whose chunks have one byte each.
const ANSWER_BYTES_MAX: u64 = 8 * (HEAD_BYTES_MAX + PROBE_BODY_BYTES_MAX) as u64;

/// Asks and judges.
pub(super) async fn ask<S>(stream: S, probe: &HttpProbe, host: &str, stage: &mut Stage) -> Result<(), Miss>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stage.is("waiting for the response");
    let request = request(probe, host)?;
    let (reader, writer) = tokio::io::split(stream);
    let bounded = TokioIo::new(tokio::io::join(reader.take(ANSWER_BYTES_MAX), writer));
    let mut builder = Builder::new();
    // Old servers may look for names as they were always written.
    builder.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX).title_case_headers(true);
    let (mut sender, connection) = builder.handshake(bounded).await.map_err(reason)?;
    let exchange = async move {
        let response = sender.send_request(request).await.map_err(reason)?;
        judge(response, probe, stage).await
    };
    tokio::pin!(exchange);
    tokio::select! {
        biased;
        verdict = &mut exchange => verdict,
        // What it has read until now still waits to be judged.
        _ = connection => exchange.await,
    }
}

fn request(probe: &HttpProbe, host: &str) -> Result<Request<Empty<Bytes>>, Miss> {
    let odd = |what: &str| Miss::Backend(format!("the request cannot be made: {what}"));
    let request = Request::builder().method(&*probe.method).uri(&*probe.path).body(Empty::new());
    let mut request = request.map_err(|error| odd(&error.to_string()))?;
    let fields = request.headers_mut();
    let host = probe.host.as_deref().unwrap_or(host);
    fields.insert(HOST, HeaderValue::from_str(host).map_err(|_| odd("host"))?);
    fields.insert(USER_AGENT, HeaderValue::from_static("ringway"));
    fields.insert(CONNECTION, HeaderValue::from_static("close"));
    for (name, value) in &probe.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| odd(name))?;
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| odd(value))?;
        if name == USER_AGENT {
            fields.insert(name, value);
        } else {
            fields.append(name, value);
        }
    }
    Ok(request)
}

async fn judge(
    response: Response<hyper::body::Incoming>,
    probe: &HttpProbe,
    stage: &mut Stage,
) -> Result<(), Miss> {
    let status = response.status().as_u16();
    if !probe.expects(status) {
        return Err(Miss::Backend(format!("status {status}")));
    }
    match &probe.body {
        None => Ok(()),
        Some(wanted) => {
            stage.is(format!("looking for `{wanted}` in the body"));
            search(response.into_body(), wanted).await
        }
    }
}

/// Reads on until it is found, or is not.
async fn search<B>(mut body: B, wanted: &str) -> Result<(), Miss>
where
    B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    let mut seen = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(reason)?.into_data() else { continue };
        // What was looked through can only hold the beginning of it.
        let from = (seen.len() + 1).saturating_sub(wanted.len());
        let room = PROBE_BODY_BYTES_MAX.saturating_sub(seen.len()).min(data.len());
        seen.extend_from_slice(data.get(..room).unwrap_or_default());
        if memmem::find(seen.get(from..).unwrap_or_default(), wanted.as_bytes()).is_some() {
            return Ok(());
        }
        if seen.len() >= PROBE_BODY_BYTES_MAX {
            let most = PROBE_BODY_BYTES_MAX / 1024;
            return Err(Miss::Backend(format!("the first {most} KiB of the body lack `{wanted}`")));
        }
    }
    Err(Miss::Backend(format!("the body lacks `{wanted}`")))
}

/// The connection ended, or all that may be read was read.
const INCOMPLETE: &str = "incomplete response";

fn reason(error: hyper::Error) -> Miss {
    if let Some(error) = error.source().and_then(|cause| cause.downcast_ref::<io::Error>()) {
        let of_kernel = error.raw_os_error().map(io::Error::from_raw_os_error);
        return of_kernel.map_or_else(|| Miss::Backend(INCOMPLETE.to_owned()), miss);
    }
    Miss::Backend(if error.is_parse_too_large() {
        "the head of the response is too large".to_owned()
    } else if error.is_parse() {
        format!("not HTTP: {error}")
    } else if error.is_incomplete_message() {
        INCOMPLETE.to_owned()
    } else {
        error.to_string()
    })
}
