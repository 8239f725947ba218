//! A script: bytes to send, and bytes to wait for.
//!
//! What is received is bounded, and so is the work of looking through it, however small the pieces are.

use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::call::{Miss, Stage, miss};
use crate::{config::plan::health::Step, limits::PROBE_BODY_BYTES_MAX};

/// So much of what was received is shown.
const SHOWN_BYTES: usize = 60;

/// Goes through the steps.
pub(super) async fn ask<S>(mut stream: S, steps: &[Step], stage: &mut Stage) -> Result<(), Miss>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut said = Vec::new();
    for step in steps {
        match step {
            Step::Send(bytes) => {
                stage.is("sending");
                stream.write_all(bytes).await.map_err(miss)?;
            }
            Step::Expect(any) => {
                let patterns: Vec<&[u8]> = any.iter().map(|bytes| &**bytes).collect();
                expect(&mut stream, &mut said, &patterns, stage).await?;
            }
        }
    }
    Ok(())
}

/// Reads until one of `any` stands in `said`, and takes it and what is before it off.
async fn expect<S: AsyncRead + Unpin>(
    stream: &mut S,
    said: &mut Vec<u8>,
    any: &[&[u8]],
    stage: &mut Stage,
) -> Result<(), Miss> {
    let longest = any.iter().map(|wanted| wanted.len()).max().unwrap_or(0);
    let mut looked_through = 0;
    let mut piece = [0; 4096];
    loop {
        if let Some(end) = first_end(said, looked_through, any) {
            said.drain(..end);
            return Ok(());
        }
        // It may have begun in what is there.
        looked_through = (said.len() + 1).saturating_sub(longest);
        if said.len() >= PROBE_BODY_BYTES_MAX {
            let most = PROBE_BODY_BYTES_MAX / 1024;
            return Err(Miss::Backend(format!("{most} KiB without {}", shown_all(any))));
        }
        stage.is(format!("expecting {}, having {}", shown_all(any), shown(said)));
        let length = stream.read(&mut piece).await.map_err(miss)?;
        if length == 0 {
            return Err(Miss::Backend(format!(
                "closed without {}, having said {}",
                shown_all(any),
                shown(said)
            )));
        }
        said.extend_from_slice(piece.get(..length).unwrap_or_default());
    }
}

/// Where the earliest of `any` ends that does not end before `from`.
fn first_end(said: &[u8], from: usize, any: &[&[u8]]) -> Option<usize> {
    let rest = said.get(from..)?;
    any.iter().filter_map(|wanted| Some(from + memmem::find(rest, wanted)? + wanted.len())).min()
}

fn shown(bytes: &[u8]) -> String {
    match bytes {
        [] => "nothing".to_owned(),
        bytes => format!("`{}`", bytes.get(..SHOWN_BYTES).unwrap_or(bytes).escape_ascii()),
    }
}

fn shown_all(any: &[&[u8]]) -> String {
    any.iter().map(|wanted| shown(wanted)).collect::<Vec<_>>().join(" or ")
}
