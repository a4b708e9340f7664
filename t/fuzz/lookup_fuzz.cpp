// What rules ask: the first line is the text of sql= or of request=, the rest a value from
// outside. A value never becomes a part of the statement, and never leads the request to another place.
#include "core/lookup_text.hpp"

#include <string>
#include <vector>

#include "fuzz/plain_regex.hpp"

using namespace rooms;

namespace {

std::optional<VariableSource> resolve(std::string_view) { return VariableSource{}; }

void check_sql(std::string_view text) {
    const auto sql = compile_sql(text, resolve);
    if (!sql) {
        FUZZ_CHECK(!sql.error().message.empty());
        return;
    }
    FUZZ_CHECK(sql->literals.size() == sql->parameters.size() + 1);
    std::string expected;
    for (std::size_t i = 0; i < sql->literals.size(); ++i) {
        FUZZ_CHECK(sql->literals[i].find('$') == std::string::npos);
        if (i > 0) expected += "$" + std::to_string(i);
        expected += sql->literals[i];
    }
    FUZZ_CHECK(sql_text(*sql) == expected);
}

// As nginx and whoever is behind it read them: decoded once.
std::string decode(std::string_view text) {
    std::string result;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '%' && text.size() - i > 2) {
            result += static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16));
            i += 2;
        } else {
            result += text[i];
        }
    }
    return result;
}

struct Uri {
    std::vector<std::string> path;  // its segments
    std::vector<std::string> arguments;
};

Uri read(std::string_view text) {
    Uri uri;
    const std::size_t mark = text.find('?');
    const std::string path = decode(text.substr(0, mark));
    for (const std::string_view part : split_plainly(path, '/')) uri.path.emplace_back(part);
    if (mark == text.npos) return uri;
    for (const std::string_view part : split_plainly(text.substr(mark + 1), '&'))
        uri.arguments.push_back(decode(part));
    return uri;
}

void check_uri(std::string_view text, const std::string& value) {
    // What the operator has encoded is his own affair.
    if (text.find('%') != text.npos) return;
    const auto uri = compile_uri(text, resolve);
    if (!uri || uri->parameters.empty()) return;
    const auto with = [&](const std::string& each) {
        return uri_text(*uri, std::vector<std::string>(uri->parameters.size(), each));
    };
    const auto plain = with("v");
    const auto actual = with(value);
    if (!plain || !actual) return;
    for (const char c : *actual) FUZZ_CHECK(static_cast<unsigned char>(c) > ' ' && c != 0x7f && c != '#');
    const Uri expected = read(*plain);
    const Uri got = read(*actual);
    FUZZ_CHECK(got.path.size() == expected.path.size());
    FUZZ_CHECK(got.arguments.size() == expected.arguments.size());
    for (const std::string& part : got.path) FUZZ_CHECK(part != "." && part != "..");
    // The value arrives as it is.
    std::string spelt = uri->literals[0];
    for (std::size_t i = 1; i < uri->literals.size(); ++i) spelt += value + uri->literals[i];
    FUZZ_CHECK(decode(*actual) == spelt);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const std::size_t end = text.find('\n');
    const std::string_view asked = text.substr(0, end);
    const std::string value(end == text.npos ? std::string_view() : text.substr(end + 1));
    check_sql(asked);
    check_uri(asked, value);
    return 0;
}
