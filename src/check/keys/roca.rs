//! ROCA (CVE-2017-15361): RSA keys of some smart cards and HSMs can be factored from their modulus.
//!
//! Their primes are k·M + (65537^a mod M) with M a product of small primes, so the modulus is a power
//! of 65537 modulo each of those primes. A sound modulus is so for all of them by chance about once in
//! 2^150 keys (Nemec, Sys, Svenda, Klinec, Matyas: The Return of Coppersmith's Attack, CCS 2017, §3.1).

const SMALL_PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
    101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// Whether a modulus (big-endian) bears the mark.
pub(super) fn is_marked(modulus: &[u8]) -> bool {
    SMALL_PRIMES.iter().all(|prime| {
        let rest = modulus.iter().fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        let mut power = 1;
        (0..*prime).any(|_| {
            power = power * 65_537 % prime;
            power == rest
        })
    })
}
