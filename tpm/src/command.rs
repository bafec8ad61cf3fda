//! Commands to a TPM and its responses, as bytes (part 3 of the specification). Who sends them is elsewhere.
//!
//! Only what an attestation and an identity key need is here, with the authorizations that these need: empty passwords, and
//! policy sessions without a password. The traffic is not encrypted: between a machine and its own TPM there is nobody whom this
//! client could keep out.

use thiserror::Error;

use crate::codec::{CodecError, Reader, Writer};

mod capability;
mod code;
mod key;
mod nv;
mod pcr;
mod session;
#[cfg(test)]
mod tests;

pub use capability::{Handles, Property, get_handles, get_pcr_banks, get_properties};
pub use code::ResponseCode;
pub use key::{
    Created, Loaded, PRIVATE_MAX, Signed, activate_credential, certify, create, create_primary, flush_context, load,
    quote, read_public, sign_ecdsa,
};
pub use nv::{NV_CHUNK, NvPublic, nv_read, nv_read_public};
pub use pcr::pcr_read;
pub use session::{policy_secret, start_policy_session};

/// Longest command and longest response, in bytes: the kernel's driver takes and gives no more.
pub const MESSAGE_MAX: usize = 4096;

/// Bytes in the header of a command and of a response: tag, size, code.
pub const HEADER_LEN: usize = 10;

/// TPM_RH_NULL.
const NO_HANDLE: u32 = 0x4000_0007;
/// TPM_RH_OWNER: the storage hierarchy.
pub const OWNER: u32 = 0x4000_0001;
/// TPM_RH_ENDORSEMENT.
pub const ENDORSEMENT: u32 = 0x4000_000b;
/// TPM_RS_PW: the authorization is a password.
const PASSWORD: u32 = 0x4000_0009;
/// TPM_ST_NO_SESSIONS.
const NO_SESSIONS: u16 = 0x8001;
/// TPM_ST_SESSIONS.
const SESSIONS: u16 = 0x8002;
/// continueSession: the session outlives the command, and is flushed by its maker.
const CONTINUE: u8 = 1;

/// How the use of a handle is authorized.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// By its password, which is empty.
    EmptyPassword,
    /// By this policy session.
    Policy(u32),
}

/// A command, and how its response is read.
#[derive(Clone, Debug)]
pub struct Command<T> {
    name: &'static str,
    bytes: Vec<u8>,
    tag: u16,
    gives: Gives,
    read: fn(u32, &mut Reader<'_>) -> Result<T, CodecError>,
}

/// Whether a handle precedes the parameters of a response.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Gives {
    Handle,
    NoHandle,
}

/// Why there is no answer to a command.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum ResponseError {
    #[error("the response to {command} makes no sense: {why}")]
    Codec { command: &'static str, why: CodecError },
    #[error("{command}: the TPM answers {code}")]
    Refused { command: &'static str, code: ResponseCode },
}

impl<T> Command<T> {
    /// Its name in part 3.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What is sent to the TPM.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads the response.
    pub fn response(&self, bytes: &[u8]) -> Result<T, ResponseError> {
        let command = self.name;
        let codec = |why| ResponseError::Codec { command, why };
        let (tag, code, mut rest) = split(bytes).map_err(codec)?;
        if code != ResponseCode::SUCCESS {
            return Err(ResponseError::Refused { command, code });
        }
        self.answer(tag, &mut rest).map_err(codec)
    }

    fn answer(&self, tag: u16, rest: &mut Reader<'_>) -> Result<T, CodecError> {
        if tag != self.tag {
            return Err(CodecError::Value { field: "response tag" });
        }
        let handle = match self.gives {
            Gives::Handle => rest.u32("response handle")?,
            Gives::NoHandle => 0,
        };
        // With sessions the parameters have a size, and what the sessions say follows. No HMAC is asked of them.
        let mut parameters = match tag {
            SESSIONS => {
                let size = rest.u32("parameterSize")?;
                Reader::new(rest.bytes("parameters", usize::try_from(size).unwrap_or(usize::MAX))?)
            }
            _ => Reader::new(rest.bytes("parameters", rest.rest().len())?),
        };
        let answer = (self.read)(handle, &mut parameters)?;
        parameters.finish("parameters")?;
        Ok(answer)
    }
}

/// The size that a response or a command says it has, from its header. It is refused here if it is longer than what is read.
pub fn announced_size(header: &[u8; HEADER_LEN]) -> Result<usize, CodecError> {
    let mut reader = Reader::new(header);
    reader.u16("tag")?;
    let size = usize::try_from(reader.u32("size")?).unwrap_or(usize::MAX);
    match size {
        0..HEADER_LEN => Err(CodecError::Value { field: "size" }),
        HEADER_LEN..=MESSAGE_MAX => Ok(size),
        _ => Err(CodecError::TooLong { field: "response", found: size, most: MESSAGE_MAX }),
    }
}

/// Tag, code, and what follows the header.
fn split(bytes: &[u8]) -> Result<(u16, ResponseCode, Reader<'_>), CodecError> {
    let header = bytes.first_chunk().ok_or(CodecError::Short { field: "response" })?;
    let (size, found) = (announced_size(header)?, bytes.len());
    if size != found {
        return Err(CodecError::Length { field: "response", found, want: size });
    }
    let mut reader = Reader::new(bytes);
    let tag = reader.u16("response tag")?;
    reader.u32("size")?;
    Ok((tag, ResponseCode::new(reader.u32("response code")?), reader))
}

/// The code of a response, if it is one: what a transport needs to know to try again.
#[must_use]
pub fn response_code(bytes: &[u8]) -> Option<ResponseCode> {
    split(bytes).ok().map(|(_, code, _)| code)
}

/// A command before it is encoded.
struct Draft<'a> {
    name: &'static str,
    code: u32,
    handles: &'a [u32],
    authorizations: &'a [Authorization],
    parameters: Vec<u8>,
    gives: Gives,
}

impl Draft<'_> {
    fn command<T>(self, read: fn(u32, &mut Reader<'_>) -> Result<T, CodecError>) -> Result<Command<T>, CodecError> {
        let mut area = Writer::default();
        for authorization in self.authorizations {
            let handle = match authorization {
                Authorization::EmptyPassword => PASSWORD,
                Authorization::Policy(session) => *session,
            };
            // Nonce and password or HMAC are empty.
            area.u32(handle).u16(0).bytes(&[CONTINUE]).u16(0);
        }
        let area = area.finish();
        let tag = if area.is_empty() { NO_SESSIONS } else { SESSIONS };
        let mut body = Writer::default();
        self.handles.iter().for_each(|handle| {
            body.u32(*handle);
        });
        if tag == SESSIONS {
            body.u32(size(&area)?).bytes(&area);
        }
        body.bytes(&self.parameters);
        let body = body.finish();
        let mut bytes = Writer::default();
        bytes.u16(tag).u32(size(&body)?.saturating_add(10)).u32(self.code).bytes(&body);
        Ok(Command { name: self.name, bytes: bytes.finish(), tag, gives: self.gives, read })
    }
}

/// The length of a part of a command.
fn size(part: &[u8]) -> Result<u32, CodecError> {
    let most = MESSAGE_MAX - HEADER_LEN;
    let too_long = CodecError::TooLong { field: "command", found: part.len(), most };
    match u32::try_from(part.len()) {
        Ok(size) if part.len() <= most => Ok(size),
        Ok(_) | Err(_) => Err(too_long),
    }
}

/// For commands that answer with nothing.
fn nothing(_: u32, _: &mut Reader<'_>) -> Result<(), CodecError> {
    Ok(())
}
