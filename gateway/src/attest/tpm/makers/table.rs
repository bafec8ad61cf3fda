//! The CAs of makers of TPMs, as data. A row is a fact about a certificate that its maker published, not the certificate.
//!
//! Subjects and fingerprints were computed with OpenSSL from the certificates in the collection
//! <https://github.com/loicsikidi/tpm-ca-certificates> of 2026-04-11, which has the evidence for each. The addresses are where it got
//! them: from documents of the makers, or from the extension Authority Information Access of CAs below them.

use super::KnownAnchor;

/// When the table was compared with the certificates for the last time.
pub const KNOWN_AS_OF: &str = "2026-04-11";

/// The known CAs, by maker.
pub static KNOWN: &[KnownAnchor] = &[
    KnownAnchor {
        maker: "AMD",
        subject: "C=US, ST=California, L=Santa Clara, O=Advanced Micro Devices Inc., OU=IT, CN=AMD Pluton Global Factory ICA",
        sha256: "593a1794f9e17476c7ad427d2908a97c451451c9e0939fdc80d5d662c232d401",
        published: "https://ftpm.amd.com/hsp/ica/AMD-Pluton-Global-Factory-ICA.crt",
    },
    KnownAnchor {
        maker: "AMD",
        subject: "OU=Engineering, C=US, L=Sunnyvale, ST=CA, O=Advanced Micro Devices, CN=AMDTPM",
        sha256: "14aac9fd58471a612afd75d8c0955daf99f091b1863702f9e0d4113faf234f9d",
        published: "https://ftpm.amd.com/pki/aia/23452201D41C5AB064032BD23F158FEF",
    },
    KnownAnchor {
        maker: "AMD",
        subject: "OU=Engineering, C=US, L=Sunnyvale, ST=CA, O=Advanced Micro Devices, CN=AMDTPM",
        sha256: "67bd2472a546751caca5f358a78f80727531671338960a9bcfdfbe6a34d0c6a1",
        published: "https://ftpm.amd.com/pki/aia/264D39A23CEB5D5B49D610044EEBD121",
    },
    KnownAnchor {
        maker: "IFX",
        subject: "C=DE, O=Infineon Technologies AG, OU=OPTIGA(TM) Devices, CN=Infineon OPTIGA(TM) ECC Root CA",
        sha256: "cfeb02fecd55ad7a73c6e1d11985d4c47dee248ab63dcb66091a2489660443c3",
        published: "https://pki.infineon.com/OptigaEccRootCA/OptigaEccRootCA.crt",
    },
    KnownAnchor {
        maker: "IFX",
        subject: "C=DE, O=Infineon Technologies AG, OU=OPTIGA(TM) Devices, CN=Infineon OPTIGA(TM) ECC Root CA 2",
        sha256: "ee0c827555c4e9012037df4257bb8aaa26084a17b13ede41cd7895c8d6c11190",
        published: "https://pki.infineon.com/OptigaEccRootCA2/OptigaEccRootCA2.crt",
    },
    KnownAnchor {
        maker: "IFX",
        subject: "C=DE, O=Infineon Technologies AG, OU=OPTIGA(TM) Devices, CN=Infineon OPTIGA(TM) RSA Root CA",
        sha256: "899e35474c9807eb4c7f2f7a12da0028fb250cd02154d0009fca7d9c66574f3b",
        published: "https://pki.infineon.com/OptigaRsaRootCA/OptigaRsaRootCA.crt",
    },
    KnownAnchor {
        maker: "IFX",
        subject: "C=DE, O=Infineon Technologies AG, OU=OPTIGA(TM) Devices, CN=Infineon OPTIGA(TM) RSA Root CA 2",
        sha256: "b413c71580af3ec5efe83fad31db2d4af4612355e3b01e50903b10763d738894",
        published: "https://pki.infineon.com/OptigaRsaRootCA2/OptigaRsaRootCA2.crt",
    },
    KnownAnchor {
        maker: "INTC",
        subject: "C=US, ST=CA, L=Santa Clara, O=Intel Corporation, OU=OnDie CA Root Cert Signing, CN=www.intel.com",
        sha256: "beb40bb7507b33967226aa80e084749fbb6593893c642e818d682e9a8d07fc24",
        published: "https://tsci.intel.com/content/OnDieCA/certs/OnDie_CA_RootCA_Certificate.cer",
    },
    KnownAnchor {
        maker: "MSFT",
        subject: "C=US, O=Microsoft Corporation, CN=Microsoft Pluton Root CA 2021",
        sha256: "32ab5fe7cb4396659fcb621ca14c6fb8fc2420f64050637d77e45a86c5d3916e",
        published: "https://www.microsoft.com/pkiops/certs/Microsoft%20Pluton%20Root%20CA%202021.crt",
    },
    KnownAnchor {
        maker: "MSFT",
        subject: "C=US, ST=Washington, L=Redmond, O=Microsoft Corporation, CN=Microsoft TPM Root Certificate Authority 2014",
        sha256: "870c7a35ceab3d59979f2c6a524042d404cb71518004350925fb2ced79a999da",
        published: "https://www.microsoft.com/pkiops/certs/Microsoft%20TPM%20Root%20Certificate%20Authority%202014.crt",
    },
    KnownAnchor {
        maker: "NSG",
        subject: "C=SG, O=NSING Technologies Pte. Ltd., OU=TPM Devices, CN=NSING TPM ECC ROOT CA 001",
        sha256: "6ccf8a8a803d07a002a15d4889ffa0b125e4a82a1fe4211db3c6e8592919f9dc",
        published: "https://pki.nsing.com.sg/NSEccRootCA001/NSEccRootCA001.crt",
    },
    KnownAnchor {
        maker: "NSG",
        subject: "C=SG, O=NSING Technologies Pte. Ltd., OU=TPM Devices, CN=NSING TPM RSA ROOT CA 001",
        sha256: "72ca00612395af027cd84c5514219f110e964dfa0bfc1efbb3ac147e3b173971",
        published: "https://pki.nsing.com.sg/NSRsaRootCA001/NSRsaRootCA001.crt",
    },
    KnownAnchor {
        maker: "NTC",
        subject: "CN=NPCTxxx ECC521 RootCA, O=Nuvoton Technology Corporation, C=TW",
        sha256: "083e7bd13e8fe0bb9b0c64db9e0c8356681df65714d2d5c4925eb98ae1369d40",
        published: "https://www.nuvoton.com/security/NTC-TPM-EK-Cert/NPCTxxxECC521RootCA.cer",
    },
    KnownAnchor {
        maker: "NTC",
        subject: "CN=Nuvoton TPM Root CA 1110 + O=Nuvoton Technology Corporation + C=TW",
        sha256: "2782e51a95e86d9557fe4204316cf805bd6f5898f81f9732e944d742bcdc5f54",
        published: "https://www.nuvoton.com/security/NTC-TPM-EK-Cert/Nuvoton%20TPM%20Root%20CA%201110.cer",
    },
    KnownAnchor {
        maker: "NTC",
        subject: "CN=Nuvoton TPM Root CA 1111 + O=Nuvoton Technology Corporation + C=TW",
        sha256: "e38c280f7c0e0b49f31efc7531032bb6a86c3fba4eb89beb1d510eaa4510ae4a",
        published: "https://www.nuvoton.com/security/NTC-TPM-EK-Cert/Nuvoton%20TPM%20Root%20CA%201111.cer",
    },
    KnownAnchor {
        maker: "NTC",
        subject: "CN=Nuvoton TPM Root CA 2111 + O=Nuvoton Technology Corporation + C=TW",
        sha256: "cd8185ff8995ed09811970090a8c36fafab34ef87f47fa51fdb9ecf95c9c2e04",
        published: "https://www.nuvoton.com/security/NTC-TPM-EK-Cert/Nuvoton%20TPM%20Root%20CA%202111.cer",
    },
    KnownAnchor {
        maker: "NTC",
        subject: "CN=Nuvoton TPM Root CA 2112 + O=Nuvoton Technology Corporation + C=TW",
        sha256: "66e3a1013d4f697700f731e7d68c69b58351f90ec9580d85862d020ab4abf1af",
        published: "https://www.nuvoton.com/security/NTC-TPM-EK-Cert/Nuvoton%20TPM%20Root%20CA%202112.cer",
    },
    KnownAnchor {
        maker: "NTC",
        subject: "CN=NuvotonTPMRootCA1210, O=Nuvoton Technology Corporation, C=TW",
        sha256: "ba70a6ea7b77c7fee8947a07b1e70e0b26d39ce5e6307f63d5e4b9507f19a157",
        published: "https://www.nuvoton.com/security/NTC-TPM-EK-Cert/NuvotonTPMRootCA1210.cer",
    },
    KnownAnchor {
        maker: "NTC",
        subject: "CN=NuvotonTPMRootCA2210, O=Nuvoton Technology Corporation, C=TW",
        sha256: "fc61abbc18100f460205ebe09d8c3e6995ac2be2234344a7facb62e15f9a7584",
        published: "https://www.nuvoton.com/security/NTC-TPM-EK-Cert/NuvotonTPMRootCA2210.cer",
    },
    KnownAnchor {
        maker: "NTC",
        subject: "CN=NuvotonTPMRootCA2211, O=Nuvoton Technology Corporation, C=TW",
        sha256: "2bbc5db224b8f28a6d2cf336d4da7ab21c8c490e3d60ef497801dc0b6ac00227",
        published: "https://www.nuvoton.com/security/NTC-TPM-EK-Cert/NuvotonTPMRootCA2211.cer",
    },
    KnownAnchor {
        maker: "STM",
        subject: "OU=GlobalSign Trusted Computing Certificate Authority, O=GlobalSign, CN=GlobalSign Trusted Platform Module ECC Root CA",
        sha256: "5a8c7b5eb888cfce9322068e80e82b28b554ffeb7fdc9638dcb3763077401d26",
        published: "https://secure.globalsign.com/cacert/tpmeccroot.crt",
    },
    KnownAnchor {
        maker: "STM",
        subject: "OU=GlobalSign Trusted Computing Certificate Authority, O=GlobalSign, CN=GlobalSign Trusted Platform Module Root CA",
        sha256: "f27bf02c6e00c73d915eeb6a6a2f5fbf0c31ae0393149e6b5c31e41b113841c3",
        published: "https://secure.globalsign.com/cacert/gstpmroot.crt",
    },
    KnownAnchor {
        maker: "STM",
        subject: "C=CH, O=STMicroelectronics NV, CN=STM TPM ECC Root CA 01",
        sha256: "c541d7e5b9e3f935621acbd403896225ec641036c9ae3b5f7ac793a606ff9b79",
        published: "https://secure.globalsign.com/cacert/stmtpmeccroot01.crt",
    },
    KnownAnchor {
        maker: "STM",
        subject: "C=CH, O=STMicroelectronics NV, CN=STM TPM EK Root CA",
        sha256: "f8e37a86b689a20a6cc0c40cc3f81fb130fa9f44ce7ffa60d62590aaf87273a9",
        published: "https://secure.globalsign.com/cacert/stmtpmekroot.crt",
    },
    KnownAnchor {
        maker: "STM",
        subject: "C=CH, O=STMicroelectronics NV, CN=STSAFE ECC Root CA 02",
        sha256: "fd1e7b68accd825636b27b3177c67402d463a7f04c97b6c47ab705fcdc1a04f6",
        published: "https://sw-center.st.com/STSAFE/STSAFEEccRootCA02.crt",
    },
    KnownAnchor {
        maker: "STM",
        subject: "C=CH, O=STMicroelectronics NV, CN=STSAFE RSA Root CA 02",
        sha256: "c8f179943356e13d9d84b100201cefabbf408880241e5329e60d950ce1dea623",
        published: "https://sw-center.st.com/STSAFE/STSAFERsaRootCA02.crt",
    },
];
