//! Flaws that systems like this one had, each with the tests that hold it shut here. The flaws are those that SPIRE, Keylime, OpenZiti,
//! headscale, OpenBao, cert-manager, go-attestation and step-ca fixed from December 2025 to August 2026, as their release notes and
//! advisories tell them.

use std::path::Path;

use super::{read, report, root};

/// A flaw of another system.
struct Flaw {
    /// Who had it, and where that is told.
    of: &'static str,
    /// The flaw, in one sentence.
    was: &'static str,
    /// Files and tests in them.
    held_by: &'static [(&'static str, &'static [&'static str])],
}

const FLAWS: &[Flaw] = &[
    Flaw {
        of: "SPIRE 1.14.6, aws_iid",
        was: "The signature was checked over one document, and the identity read from another that came beside it.",
        held_by: &[
            ("tpm/src/attest/tests.rs", &["every_kind_of_ak_is_believed_for_what_it_signed_and_nothing_else"]),
            ("gateway/src/core/jwt/tests.rs", &["a_good_token_says_whose_it_is", "shapes_that_are_no_jws"]),
            ("gateway/src/attest/x509/tests.rs", &["signatures_that_do_not_hold"]),
        ],
    },
    Flaw {
        of: "SPIRE 1.15.1, azure_imds",
        was: "The chain of one certificate was checked, and the signature of another.",
        held_by: &[
            ("pki/src/path/tests.rs", &["only_the_key_in_the_certificate_signs"]),
            ("gateway/src/attest/x509/tests.rs", &["signatures_that_do_not_hold"]),
            ("pki/src/ek/tests.rs", &["each_certificate_of_the_ek_is_judged_by_itself_in_any_order"]),
        ],
    },
    Flaw {
        of: "SPIRE 1.14.6, join_token",
        was: "Of two who redeemed a token at once, both won.",
        held_by: &[
            ("gateway/tests/unhappy.rs", &["of_sixty_four_who_redeem_a_token_at_once_one_joins"]),
            ("tests/tests/e2e/tokens.rs", &["racing_keys_share_no_token"]),
            ("gateway/tests/jwt.rs", &["a_token_that_races_is_spent_once"]),
        ],
    },
    Flaw {
        of: "SPIRE 1.14.2, http_challenge",
        was: "The server fetched an address that an anonymous client chose.",
        held_by: &[
            ("gateway/src/attest/jwt/tests.rs", &["no_address_in_a_token_is_read"]),
            ("gateway/src/core/jwt/tests.rs", &["a_token_brings_no_key_along"]),
        ],
    },
    Flaw {
        of: "SPIRE 1.14.2, x509pop",
        was: "A small request cost much work on its chain before any limit.",
        held_by: &[
            (
                "pki/src/ek/tests.rs",
                &[
                    "signatures_are_counted",
                    "paths_are_short",
                    "keys_that_are_too_short_sign_nothing",
                    "keys_with_a_long_exponent_sign_nothing",
                ],
            ),
            ("pki/src/path/tests.rs", &["a_path_is_no_longer_than_that"]),
            ("gateway/tests/attested.rs", &["a_second_piece_of_a_kind_that_asks_is_refused_before_the_first_is_read"]),
        ],
    },
    Flaw {
        of: "SPIRE 1.14.3",
        was: "A resumed TLS session was not verified against the bundle of now.",
        held_by: &[("gateway/src/edge/listen/tests.rs", &["the_handshake_is_as_we_want_it_and_never_resumed"])],
    },
    Flaw {
        of: "Keylime, CVE-2026-6420",
        was: "The nonce of an attestation was always the same.",
        held_by: &[
            ("gateway/tests/attested.rs", &["no_two_challenges_are_the_same", "a_ticket_is_used_once"]),
            ("gateway/src/attest/tpm/tests.rs", &["two_challenges_differ_and_an_answer_is_for_one"]),
            ("gateway/src/core/ticket.rs", &["a_ticket_is_for_one_key_its_time_and_its_kinds"]),
        ],
    },
    Flaw {
        of: "Keylime, CVE-2026-1709",
        was: "Endpoints for clients with a certificate answered those without one.",
        held_by: &[(
            "gateway/tests/table.rs",
            &[
                "every_endpoint_is_written_down_here_and_nothing_else",
                "every_cell_of_the_enroll_face",
                "every_cell_of_the_manage_face",
            ],
        )],
    },
    Flaw {
        of: "keylime/keylime#1820",
        was: "Whoever registered a known name from another TPM took the identity over.",
        held_by: &[
            (
                "gateway/tests/same_device.rs",
                &["another_device_is_another_machine", "a_token_takes_no_device_from_its_machine"],
            ),
            ("gateway/tests/stories.rs", &["a_name_is_given_once_but_many_may_want_it"]),
        ],
    },
    Flaw {
        of: "OpenZiti, GHSA-mrpr-756c-xm47 and GHSA-hhm9-wf63-g7qj",
        was: "Any certificate that was sent led to the CA, while the identity was that of another.",
        held_by: &[
            ("pki/src/verify/tests.rs", &["identities", "a_ca_for_one_role_cannot_make_one_for_another"]),
            ("pki/src/chain/tests.rs", &["order_and_strangers_do_not_matter"]),
            ("gateway/src/edge/listen/tests.rs", &["nobody_enters_the_manage_face_without_a_good_certificate"]),
        ],
    },
    Flaw {
        of: "OpenZiti, GHSA-4h58-w989-xgg4",
        was: "A header that named the issuer made the checks of issuer and audience go away.",
        held_by: &[
            (
                "gateway/src/attest/jwt/tests.rs",
                &["an_issuer_is_found_by_its_token", "what_does_not_hold_is_refused_by_name"],
            ),
            (
                "gateway/src/core/jwt/tests.rs",
                &["each_claim_must_be_there", "the_issuer_is_compared_as_a_text", "the_audience_is_one"],
            ),
        ],
    },
    Flaw {
        of: "OpenZiti, GHSA-whjr-3j94-gw3c",
        was: "Keys were fetched without a time limit, from any address.",
        held_by: &[
            (
                "gateway/src/edge/fetch/tests.rs",
                &[
                    "a_document_is_fetched_from_who_it_should_be",
                    "answers_that_are_not_taken",
                    "who_does_not_answer_is_given_up",
                ],
            ),
            ("gateway/src/core/evidence/source.rs", &["private_addresses_are_told_from_public_ones"]),
        ],
    },
    Flaw {
        of: "OpenZiti, GHSA-q8g9-jc4c-jp6q",
        was: "A whole body was read before anybody was authenticated.",
        held_by: &[
            ("gateway/tests/rows/mod.rs", &["bodies_over_the_limit_are_refused_and_those_within_are_read"]),
            ("tests/tests/e2e/framing.rs", &["heads_and_bodies_over_the_limit_are_refused"]),
            ("tests/tests/e2e/requests.rs", &["a_mebibyte_of_junk"]),
        ],
    },
    Flaw {
        of: "openziti/ziti#4049",
        was: "Somebody with the right to enroll enrolled as an administrator.",
        held_by: &[
            (
                "gateway/tests/people.rs",
                &["a_token_is_worth_what_its_maker_could_give_now", "a_token_is_judged_by_what_it_would_give"],
            ),
            ("gateway/src/core/evidence/merge.rs", &["what_is_granted_is_no_more_than_one_piece_grants"]),
        ],
    },
    Flaw {
        of: "openziti/ziti#3929",
        was: "A revocation did not reach connections that were open.",
        held_by: &[
            ("tests/tests/e2e/locks.rs", &["a_lock_cuts_an_idle_connection_within_a_second"]),
            ("tests/tests/e2e/cuts.rs", &["a_lock_of_the_machine", "a_lock_of_the_lineage_and_of_the_key"]),
        ],
    },
    Flaw {
        of: "juanfont/headscale#3393",
        was: "Whoever knew the id of a request collected its result.",
        held_by: &[
            ("tests/tests/e2e/requests.rs", &["a_strangers_request_is_not_for_others_to_see"]),
            ("gateway/src/core/proof.rs", &["a_proof_for_anything_else_does_not"]),
        ],
    },
    Flaw {
        of: "OpenBao, GHSA-g892-p242-8g86",
        was: "Names of one kind in a request escaped the rule that those of other kinds obeyed.",
        held_by: &[
            ("tests/tests/e2e/requests.rs", &["names_and_rights_in_a_request_are_ignored"]),
            ("pki/src/path/tests.rs", &["names_outside_of_the_constraints_are_refused"]),
        ],
    },
    Flaw {
        of: "cert-manager/cert-manager#9239 and #9222",
        was: "Bodies of strangers were read without a bound and shown as they came.",
        held_by: &[
            ("gateway/src/edge/fetch/tests.rs", &["answers_that_are_not_taken"]),
            ("gateway/src/core/reject.rs", &["what_is_quoted_is_cut_and_escaped"]),
            ("pki/src/shown.rs", &["what_deceives_is_written_out", "it_has_a_length"]),
            ("enroll-client/src/edge/net_tests.rs", &["answers_that_are_none"]),
        ],
    },
    Flaw {
        of: "google/go-attestation#486 and six more",
        was: "Event logs made their reader take too much memory, call itself without end, or fail.",
        held_by: &[
            (
                "tpm/src/eventlog/tests.rs",
                &[
                    "budgets_hold",
                    "malformed_logs_are_refused_with_the_event_and_the_field",
                    "any_bytes_are_refused_or_stay_within_the_budget",
                ],
            ),
            ("tests/fuzz/src/tpm_log.rs", &["check"]),
        ],
    },
    Flaw {
        of: "smallstep/certificates#2569",
        was: "A certificate with an empty list of usages ended the program.",
        held_by: &[
            ("pki/src/ek/tests.rs", &["what_is_no_certificate_of_this_ek_is_named"]),
            ("pki/src/path/tests.rs", &["single_certificates_that_cannot_be_judged"]),
        ],
    },
];

#[test]
fn flaws_of_other_systems_are_held_by_tests_that_exist() {
    let mut complaints = Vec::new();
    for Flaw { of, was, held_by } in FLAWS {
        if held_by.is_empty() {
            complaints.push(format!("{of}: no test. {was}"));
        }
        for (file, tests) in *held_by {
            if !root().join(file).is_file() {
                complaints.push(format!("{of}: there is no {file}"));
                continue;
            }
            let text = read(Path::new(file));
            let lacks = |test: &&&str| !text.contains(&format!("fn {test}("));
            complaints.extend(tests.iter().filter(lacks).map(|test| format!("{of}: {file} has no `{test}`. {was}")));
        }
    }
    report("flaws of other systems without their tests", complaints);
    assert_eq!(FLAWS.len(), 20);
}
