//! F19: what tokens are refused for, and with which code.

use super::*;
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

const NOW_MS: u64 = 1_764_060_000_000;
const NOW_S: u64 = NOW_MS / 1_000;

/// An RSA and a P-256 key beside the issuer's Ed25519 one.
struct World {
    dir: tempfile::TempDir,
    issuer: Issuer,
    rsa: EncodingKey,
    rsa_public_der: Vec<u8>,
    ec: EncodingKey,
    verifier: Verifier,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let issuer = Issuer::open(dir.path()).unwrap();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let rsa_der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = rsa.as_der().unwrap();
    let parts: PublicKeyComponents<Vec<u8>> = rsa.public_key().into();
    let rng = aws_lc_rs::rand::SystemRandom::new();
    let ec_document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
    let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec_document.as_ref());
    let point = ec.unwrap().public_key().as_ref().to_vec();
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let mut keys: Value = serde_json::from_str(&issuer.jwks()).unwrap();
    let list = keys["keys"].as_array_mut().unwrap();
    list.push(json!({"kty": "RSA", "kid": "rsa", "n": b64(&parts.n), "e": b64(&parts.e)}));
    let (x, y) = (b64(&point[1..33]), b64(&point[33..]));
    list.push(json!({"kty": "EC", "crv": "P-256", "kid": "ec", "alg": "ES256", "x": x, "y": y}));
    let mut settings = issuer.auth_settings(Some(dir.path().join("revoked.json")));
    settings.keys = KeySource::Text(keys.to_string());
    World {
        verifier: Verifier::new(settings).unwrap(),
        rsa: EncodingKey::from_rsa_der(&rsa_pkcs1(rsa_der.as_ref())),
        rsa_public_der: rsa.public_key().as_ref().to_vec(),
        ec: EncodingKey::from_ec_der(ec_document.as_ref()),
        issuer,
        dir,
    }
}

/// The PKCS#1 key inside a PKCS#8 document: its last field.
fn rsa_pkcs1(pkcs8: &[u8]) -> Vec<u8> {
    let at = pkcs8
        .windows(4)
        .enumerate()
        .skip(4)
        .find(|(_, w)| w[0] == 0x30 && w[1] == 0x82)
        .map(|(at, _)| at)
        .unwrap();
    pkcs8[at..].to_vec()
}

fn claims() -> Value {
    json!({
        "iss": "hawser-embedded", "aud": "hawser", "tenant": "default",
        "sub": "alice", "dev": "laptop", "iat": NOW_S, "exp": NOW_S + 600,
    })
}

fn with(field: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[field] = value;
    claims
}

fn signed(world: &World, claims: &Value) -> String {
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some("ec".into());
    jsonwebtoken::encode(&header, claims, &world.ec).unwrap()
}

/// A token with any header, and a signature of the given bytes.
fn raw(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let b64 = |text: String| URL_SAFE_NO_PAD.encode(text);
    let (header, claims) = (b64(header.to_string()), b64(claims.to_string()));
    format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn f19_good_tokens_of_all_three_algorithms_are_accepted() {
    let world = world();
    let user = UserId::new("alice").unwrap();
    let device = DeviceId::new("laptop").unwrap();
    let ours = world.issuer.issue(&user, Some(&device), 600, true, NOW_MS);
    let got = world.verifier.verify(&ours, NOW_MS).unwrap();
    assert_eq!((got.user, got.device), (user, Some(device)));
    assert!(got.admin && got.jti.is_some());
    assert_eq!(got.expires_at_ms, NOW_MS + 600_000);
    for (algorithm, kid, key) in [
        (Algorithm::ES256, "ec", &world.ec),
        (Algorithm::RS256, "rsa", &world.rsa),
    ] {
        for kid in [Some(kid.to_owned()), None] {
            let mut header = Header::new(algorithm);
            header.kid = kid;
            let token = jsonwebtoken::encode(&header, &claims(), key).unwrap();
            let got = world.verifier.verify(&token, NOW_MS).unwrap();
            assert!(!got.admin, "{algorithm:?}");
        }
    }
}

#[test]
fn f19_alg_none_is_refused() {
    let world = world();
    for alg in ["none", "None", "NONE", "", "HS256 "] {
        for kid in [json!("ec"), Value::Null] {
            let token = raw(&json!({"alg": alg, "kid": kid}), &claims(), b"");
            assert_eq!(
                world.verifier.verify(&token, NOW_MS),
                Err(AuthError::Malformed)
            );
        }
    }
}

#[test]
fn f19_hs256_with_the_rsa_key_as_secret_is_refused() {
    let world = world();
    for kid in ["rsa", "ec"] {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(kid.into());
        let key = EncodingKey::from_secret(&world.rsa_public_der);
        let token = jsonwebtoken::encode(&header, &claims(), &key).unwrap();
        assert_eq!(
            world.verifier.verify(&token, NOW_MS),
            Err(AuthError::UnknownKey)
        );
    }
}

#[test]
fn f19_a_key_verifies_its_own_algorithm_only() {
    let world = world();
    for algorithm in [Algorithm::RS384, Algorithm::RS512, Algorithm::PS256] {
        let mut header = Header::new(algorithm);
        header.kid = Some("rsa".into());
        let token = jsonwebtoken::encode(&header, &claims(), &world.rsa).unwrap();
        assert_eq!(
            world.verifier.verify(&token, NOW_MS),
            Err(AuthError::UnknownKey)
        );
    }
}

#[test]
fn f19_kid_traversal_and_unknown_kids_name_no_key() {
    let world = world();
    let long = "k".repeat(5_000);
    for kid in [
        "../../../../dev/null",
        "/etc/passwd",
        "' OR 1=1 --",
        "",
        "EC",
        &long,
    ] {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(kid.into());
        let token = jsonwebtoken::encode(&header, &claims(), &world.ec).unwrap();
        assert_eq!(
            world.verifier.verify(&token, NOW_MS),
            Err(AuthError::UnknownKey)
        );
    }
}

#[test]
fn f19_headers_that_bring_their_own_key_are_refused_even_when_signed_well() {
    let world = world();
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([1; 32])});
    for (field, value) in [
        ("jku", json!("https://evil.example/keys")),
        ("jwk", jwk),
        ("x5u", json!("https://evil.example/chain")),
        ("x5c", json!(["MII="])),
        ("crit", json!(["b64"])),
    ] {
        let header = json!({"alg": "ES256", "kid": "ec", field: value});
        let unsigned = raw(&header, &claims(), b"");
        let message = unsigned.trim_end_matches('.');
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &world.ec, Algorithm::ES256).unwrap();
        let token = format!("{message}.{signature}");
        assert_eq!(
            world.verifier.verify(&token, NOW_MS),
            Err(AuthError::Header),
            "{field}"
        );
    }
}

#[test]
fn f19_a_foreign_or_broken_signature_is_refused() {
    let world = world();
    let good = signed(&world, &claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    bytes[7] ^= 1;
    let flipped = format!("{message}.{}", URL_SAFE_NO_PAD.encode(&bytes));
    let bare = format!("{message}.");
    let other = self::world();
    for token in [flipped, bare, signed(&other, &claims())] {
        assert_eq!(
            world.verifier.verify(&token, NOW_MS),
            Err(AuthError::Signature)
        );
    }
    let zero = raw(&json!({"alg": "ES256", "kid": "ec"}), &claims(), &[0; 64]);
    assert_eq!(
        world.verifier.verify(&zero, NOW_MS),
        Err(AuthError::Signature)
    );
}

#[test]
fn f19_expired_has_its_own_code_and_no_leeway() {
    let world = world();
    let token = signed(&world, &claims());
    let last = NOW_MS + 599_999;
    assert!(world.verifier.verify(&token, last).is_ok());
    let error = world.verifier.verify(&token, last + 1).unwrap_err();
    assert_eq!(error, AuthError::Expired);
    assert_eq!(error.code(), ErrorCode::TokenExpired);
    assert_eq!(error.close(), CloseCode::TokenExpired);
}

#[test]
fn f19_nbf_and_iat_ahead_are_judged_with_60_s_of_skew() {
    let world = world();
    for field in ["nbf", "iat"] {
        let near = signed(&world, &with(field, json!(NOW_S + 60)));
        assert!(world.verifier.verify(&near, NOW_MS).is_ok());
        let far = signed(&world, &with(field, json!(NOW_S + 61)));
        let error = world.verifier.verify(&far, NOW_MS).unwrap_err();
        assert_eq!(error, AuthError::NotYet);
        assert_eq!(error.close(), CloseCode::BadToken);
    }
}

#[test]
fn f19_another_audience_issuer_or_tenant_is_refused() {
    let world = world();
    for (field, value) in [
        ("aud", json!("other")),
        ("aud", json!(["other", "more"])),
        ("aud", Value::Null),
        ("iss", json!("other")),
        ("iss", Value::Null),
        ("tenant", json!("other")),
        ("tenant", json!("")),
    ] {
        let token = signed(&world, &with(field, value));
        assert_eq!(
            world.verifier.verify(&token, NOW_MS),
            Err(AuthError::NotForUs),
            "{field}"
        );
    }
    let token = signed(&world, &with("aud", json!(["other", "hawser"])));
    assert!(world.verifier.verify(&token, NOW_MS).is_ok());
}

#[test]
fn f19_claims_of_no_allowed_form_are_refused() {
    let world = world();
    for (field, value) in [
        ("sub", json!("")),
        ("sub", json!("a b")),
        ("sub", json!(7)),
        ("sub", json!("x".repeat(65))),
        ("dev", json!("../x")),
        ("exp", Value::Null),
        ("exp", json!("soon")),
        ("exp", json!(-1)),
        ("exp", json!(1e300)),
        ("jti", json!("j".repeat(257))),
    ] {
        let token = signed(&world, &with(field, value));
        assert_eq!(
            world.verifier.verify(&token, NOW_MS),
            Err(AuthError::Malformed),
            "{field}"
        );
    }
    for token in [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c.d",
        "\u{0}.\u{0}.\u{0}",
        "eyJ.eyJ.x",
    ] {
        assert_eq!(
            world.verifier.verify(token, NOW_MS),
            Err(AuthError::Malformed)
        );
    }
}

#[test]
fn f19_an_oversized_token_is_refused_unparsed() {
    let world = world();
    let huge = "a".repeat(10 << 20);
    let start = Instant::now();
    assert_eq!(
        world.verifier.verify(&huge, NOW_MS),
        Err(AuthError::TooLong)
    );
    assert!(start.elapsed().as_millis() < 50, "it was looked at");
    let big = signed(&world, &with("x", json!("y".repeat(TOKEN_BYTES_MAX))));
    assert_eq!(world.verifier.verify(&big, NOW_MS), Err(AuthError::TooLong));
}

#[test]
fn g9_revocations_void_tokens_issued_before_and_survive_a_restart() {
    let world = world();
    let user = UserId::new("alice").unwrap();
    let device = DeviceId::new("laptop").unwrap();
    let issue = |now_ms| {
        world
            .issuer
            .issue(&user, Some(&device), 6_000, false, now_ms)
    };
    let (old, new) = (issue(NOW_MS), issue(NOW_MS + 5_000));
    let live = world.verifier.verify(&old, NOW_MS).unwrap();
    let revocation = Revocation::Device {
        user: user.clone(),
        device: device.clone(),
        until_ms: Some(NOW_MS),
    };
    world.verifier.revoke(&revocation, NOW_MS).unwrap();
    assert!(world.verifier.revoked(&live));
    let error = world.verifier.verify(&old, NOW_MS).unwrap_err();
    assert_eq!(
        (error, error.close()),
        (AuthError::Revoked, CloseCode::Revoked)
    );
    assert!(world.verifier.verify(&new, NOW_MS + 5_000).is_ok());

    let mut settings = world
        .issuer
        .auth_settings(Some(world.dir.path().join("revoked.json")));
    let again = Verifier::new(settings.clone()).unwrap();
    assert_eq!(again.verify(&old, NOW_MS), Err(AuthError::Revoked));
    let ban = Revocation::User {
        user: user.clone(),
        until_ms: None,
    };
    again.revoke(&ban, NOW_MS).unwrap();
    assert!(world.verifier.verify(&new, NOW_MS + 5_000).is_ok());
    world.verifier.reload().unwrap();
    assert_eq!(
        world.verifier.verify(&new, NOW_MS + 5_000),
        Err(AuthError::Revoked)
    );

    settings.revocations = None;
    let memory = Verifier::new(settings).unwrap();
    let jti = memory.verify(&new, NOW_MS + 5_000).unwrap().jti.unwrap();
    let one = Revocation::Token {
        jti,
        expires_at_ms: NOW_MS + 60_000,
    };
    memory.revoke(&one, NOW_MS).unwrap();
    assert_eq!(memory.verify(&new, NOW_MS + 5_000), Err(AuthError::Revoked));
    assert!(memory.verify(&old, NOW_MS).is_ok());
}

#[test]
fn a_lifted_ban_stays_lifted_though_another_process_wrote_meanwhile() {
    let world = world();
    let user = UserId::new("alice").unwrap();
    let ban = Revocation::User {
        user: user.clone(),
        until_ms: None,
    };
    world.verifier.revoke(&ban, NOW_MS).unwrap();
    world
        .verifier
        .revoke(&Revocation::Pardon { user }, NOW_MS)
        .unwrap();
    let token = signed(&world, &claims());
    assert!(world.verifier.verify(&token, NOW_MS).is_ok());
    world.verifier.reload().unwrap();
    assert!(world.verifier.verify(&token, NOW_MS).is_ok());
}

#[test]
fn the_issuers_key_is_kept_and_its_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let first = Issuer::open(dir.path()).unwrap();
    let again = Issuer::open(dir.path()).unwrap();
    assert_eq!(first.jwks(), again.jwks());
    let path = dir.path().join("issuer-ed25519.p8");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(
        Issuer::open(dir.path()),
        Err(IssuerError::Exposed { .. })
    ));
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "nothing").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(
        Issuer::open(dir.path()),
        Err(IssuerError::NoKey { .. })
    ));
}

#[test]
fn a_key_set_that_is_unsafe_or_empty_is_refused_by_name() {
    let x = URL_SAFE_NO_PAD.encode([7; 32]);
    let okp = |kid: &str| json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x});
    let short =
        json!({"kty": "RSA", "kid": "weak", "n": URL_SAFE_NO_PAD.encode([9; 128]), "e": "AQAB"});
    let secret = json!({"kty": "oct", "kid": "shared", "k": "c2VjcmV0"});
    let other = json!({"kty": "EC", "crv": "secp256k1", "kid": "coin"});
    for (keys, words) in [
        (json!([]), "holds no key"),
        (json!([other]), "holds no key"),
        (json!([okp("a"), okp("a")]), "`a`"),
        (json!([short]), "`weak`"),
        (json!([okp("a"), secret]), "`shared`"),
    ] {
        let text = json!({ "keys": keys }).to_string();
        let error = KeySet::parse(&text).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    let missing = std::path::Path::new("/nonexistent/jwks.json");
    let error = KeySet::read(missing).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/jwks.json"), "{error}");
}
