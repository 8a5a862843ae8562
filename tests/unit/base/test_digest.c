/* Digests against the vectors of FIPS 180-4 and RFC 4231. */
#include "base/digest.h"

#include "base/util.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void assert_digest(struct digest d, const char *hex)
{
    struct digest want = {{0}};
    for (size_t i = 0; i < DIGEST_SIZE; i++) {
        char byte[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        want.bytes[i] = (uint8_t)strtoul(byte, NULL, 16);
    }
    assert_memory_equal(d.bytes, want.bytes, DIGEST_SIZE);
}

static void test_sha256(void **state)
{
    (void)state;
    assert_digest(digest_sha256("", 0), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_digest(digest_sha256("abc", 3), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void test_hmac(void **state)
{
    (void)state;
    char key[131], data[50];
    memset(key, 0xaa, sizeof(key));
    memset(data, 0xdd, sizeof(data));
    const char *question = "what do ya want for nothing?",
               *large = "Test Using Larger Than Block-Size Key - Hash Key First";
    assert_digest(digest_hmac("Jefe", 4, question, strlen(question)),
                  "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    assert_digest(digest_hmac(key, 20, data, sizeof(data)),
                  "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
    assert_digest(digest_hmac(key, sizeof(key), large, strlen(large)),
                  "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

static void test_equal(void **state)
{
    (void)state;
    struct digest a = digest_sha256("a", 1), b = a;
    assert_true(digest_equal(&a, &b));
    for (size_t i = 0; i < DIGEST_SIZE; i++) {
        b.bytes[i] ^= 0x80;
        assert_false(digest_equal(&a, &b));
        b.bytes[i] ^= 0x80;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256),
        cmocka_unit_test(test_hmac),
        cmocka_unit_test(test_equal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
