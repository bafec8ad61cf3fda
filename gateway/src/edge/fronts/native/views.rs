//! What the sequences say, in the words of the wire, and the wire's requests as the sequences take them.

use wire::admin as said;

use crate::{
    core::records::Convergence,
    flow::{asked, views},
    registry::enforcer::Enforced,
};

/// A page in the words of the wire.
#[must_use]
pub fn page<T, U: From<T>>(page: views::Page<T>) -> said::Page<U> {
    said::Page { items: page.items.into_iter().map(U::from).collect(), next: page.next }
}

fn service(offered: views::OfferedService) -> String {
    if offered.sealed { format!("{} (sealed)", offered.name) } else { offered.name }
}

impl From<Convergence> for said::ConvergenceView {
    fn from(from: Convergence) -> Self {
        let Convergence { run, by, at } = from;
        Self {
            tool: run.tool,
            version: run.version,
            run_id: run.run_id,
            play: run.play,
            started: run.started.0,
            finished: run.finished.0,
            ok: run.ok,
            changed: run.changed,
            failed: run.failed,
            unreachable: run.unreachable,
            skipped: run.skipped,
            by,
            at: at.0,
        }
    }
}

impl From<views::SubjectDetails> for said::SubjectView {
    fn from(from: views::SubjectDetails) -> Self {
        Self {
            name: from.name,
            identity: from.identity,
            role: from.role.as_str().to_owned(),
            state: from.state.to_owned(),
            labels: from.labels,
            groups: from.groups,
            owner: from.owner,
            owner_gone: from.owner_gone,
            assurance: from.assurance.level().as_str().to_owned(),
            assurance_of: from.assurance.of().map(|of| of.as_str().to_owned()),
            lineage: from.lineage,
            serial: from.serial.map(|serial| serial.hex()),
            not_after: from.not_after,
            pending_serial: from.pending_serial.map(|serial| serial.hex()),
            created: from.created,
            locks: from.locks.into_iter().map(Into::into).collect(),
            last_seen: from.last_seen,
            renaming: from.renaming,
            tunnel: from.tunnel.map(Into::into),
            verified: from.verified,
            stated: from.stated,
            claimed: from.claimed,
            convergence: from.convergence.map(Into::into),
        }
    }
}

impl From<views::TunnelDetails> for said::TunnelView {
    fn from(from: views::TunnelDetails) -> Self {
        Self {
            since: from.since,
            source: from.source.to_string(),
            services: from.services.into_iter().map(service).collect(),
        }
    }
}

impl From<views::LockDetails> for said::LockView {
    fn from(from: views::LockDetails) -> Self {
        Self {
            kind: from.kind.as_str().to_owned(),
            target: from.target,
            reason: from.reason,
            by: from.by,
            at: from.at,
            ended: from.ended.map(Into::into),
            hits: from.hits,
            suspended: from.suspended.map(Into::into),
        }
    }
}

impl From<Enforced> for said::EndedView {
    fn from(from: Enforced) -> Self {
        Self { sessions: from.sessions, millis: from.millis, left: from.left }
    }
}

impl From<views::MadeBy> for said::MadeView {
    fn from(from: views::MadeBy) -> Self {
        Self { tokens: from.tokens, approvals: from.approvals, machines: from.machines, more: from.more }
    }
}

impl From<views::Removal> for said::RemovedView {
    fn from(from: views::Removal) -> Self {
        Self { instance: from.instance, ended: from.ended.map(Into::into), handed_over: from.handed_over }
    }
}

impl From<views::Correction> for said::SetReply {
    fn from(from: views::Correction) -> Self {
        Self { subject: from.subject.into(), warnings: from.warnings }
    }
}

impl From<views::TokenDetails> for said::TokenView {
    fn from(from: views::TokenDetails) -> Self {
        Self {
            id: from.id,
            role: from.role.as_str().to_owned(),
            state: from.state.to_owned(),
            uses: from.uses,
            redeemed: from.redeemed,
            names: from.names,
            labels: from.labels,
            groups: from.groups,
            owner: from.owner,
            key: from.key,
            by: from.by,
            created: from.created,
            expires: from.expires,
        }
    }
}

impl From<views::MadeToken> for said::TokenReply {
    fn from(from: views::MadeToken) -> Self {
        Self { id: from.id, token: from.token, expires: from.expires, warnings: from.warnings }
    }
}

impl From<views::RequestDetails> for said::RequestView {
    fn from(from: views::RequestDetails) -> Self {
        Self {
            id: from.id,
            state: from.state.to_owned(),
            role: from.role.as_str().to_owned(),
            wanted_name: from.wanted_name,
            name: from.name,
            key: from.key,
            algorithm: from.algorithm,
            verified: from.verified,
            stated: from.stated,
            claimed: from.claimed,
            assurance: from.assurance.level().as_str().to_owned(),
            assurance_of: from.assurance.of().map(|of| of.as_str().to_owned()),
            source: from.source,
            created: from.created,
            expires: from.expires,
            approvals: from.approvals.into_iter().map(Into::into).collect(),
            approvals_wanted: from.approvals_wanted,
            rivals: from.rivals,
            taken: from.taken,
            same_device: from.same_device.map(Into::into),
            rules: from.rules,
            lifetime: from.lifetime,
            reason: from.reason,
        }
    }
}

impl From<views::SameDevice> for said::SameDeviceView {
    fn from(from: views::SameDevice) -> Self {
        let views::SameDevice { machine, state, comes_back, counted_back } = from;
        Self { machine, state: state.to_owned(), comes_back, counted_back }
    }
}

impl From<views::ApprovalDetails> for said::ApprovalView {
    fn from(from: views::ApprovalDetails) -> Self {
        Self {
            by: from.by,
            at: from.at,
            code_checked: from.code_checked,
            name: from.name,
            labels: from.labels,
            owner: from.owner,
            content: from.content,
        }
    }
}

impl From<views::WaitingRequests> for said::RequestEvents {
    fn from(from: views::WaitingRequests) -> Self {
        Self { items: from.items.into_iter().map(Into::into).collect(), seen: from.seen }
    }
}

impl From<views::SessionDetails> for said::SessionView {
    fn from(from: views::SessionDetails) -> Self {
        Self {
            id: from.id,
            caller: from.caller,
            source: from.source,
            machine: from.machine,
            service: from.service,
            mode: from.mode.to_owned(),
            door: from.door.to_owned(),
            rules: from.rules,
            started_ms: from.started_ms,
            ended_ms: from.ended_ms,
            reason: from.reason.map(str::to_owned),
            to_machine: from.to_machine,
            from_machine: from.from_machine,
            dial_backs: from.dial_backs,
        }
    }
}

impl From<views::SessionEvent> for said::SessionEventView {
    fn from(from: views::SessionEvent) -> Self {
        let (event, session) = (from.event.to_owned(), from.session.into());
        Self { number: from.number, cursor: Some(from.cursor), event, session }
    }
}

impl From<views::SessionNews> for said::SessionEvents {
    fn from(from: views::SessionNews) -> Self {
        let items = from.items.into_iter().map(Into::into).collect();
        Self { items, next: from.next, cursor: Some(from.cursor), gap: from.gap }
    }
}

impl From<views::PolicyAnswer> for said::CanIReply {
    fn from(from: views::PolicyAnswer) -> Self {
        Self { allowed: from.allowed, rules: from.rules, explanation: from.explanation }
    }
}

impl From<views::AuditEntry> for said::AuditView {
    fn from(from: views::AuditEntry) -> Self {
        Self {
            id: from.id,
            at_ms: from.at_ms,
            event: from.event,
            actor: from.actor,
            subject: from.subject,
            rules: from.rules,
            instance: from.instance,
            detail: from.detail,
        }
    }
}

impl From<said::LockRequest> for asked::LockWish {
    fn from(from: said::LockRequest) -> Self {
        Self { kind: from.kind, target: from.target, reason: from.reason }
    }
}

impl From<said::CanIRequest> for asked::PolicyQuestion {
    fn from(from: said::CanIRequest) -> Self {
        Self { action: from.action, resource: from.resource }
    }
}

impl From<said::MachineChange> for asked::MachineCorrection {
    fn from(from: said::MachineChange) -> Self {
        Self {
            labels: from.labels,
            no_labels: from.no_labels,
            owner: from.owner,
            no_owner: from.no_owner,
            name: from.name,
        }
    }
}

impl From<said::PersonChange> for asked::PersonCorrection {
    fn from(from: said::PersonChange) -> Self {
        Self { groups: from.groups, no_groups: from.no_groups }
    }
}

impl From<said::TokenRequest> for asked::TokenWish {
    fn from(from: said::TokenRequest) -> Self {
        Self {
            role: from.role,
            uses: from.uses,
            ttl: from.ttl,
            names: from.names,
            labels: from.labels,
            groups: from.groups,
            owner: from.owner,
            key: from.key,
        }
    }
}

impl From<said::ReportRequest> for asked::RunReport {
    fn from(from: said::ReportRequest) -> Self {
        Self {
            tool: from.tool,
            version: from.version,
            run_id: from.run_id,
            play: from.play,
            started: from.started,
            finished: from.finished,
            ok: from.ok,
            changed: from.changed,
            failed: from.failed,
            unreachable: from.unreachable,
            skipped: from.skipped,
        }
    }
}
