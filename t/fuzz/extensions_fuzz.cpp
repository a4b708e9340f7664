// Header lines, cut at newlines, through the negotiation. Beside the grammar of RFC 6455 section 9.1 as an
// expression, and offers (RFC 7692 section 7.1) that are read by splitting: where the grammar holds, a comma, a
// semicolon and an equals sign stand only where they divide, and quotes change nothing.
#include "core/extensions.hpp"

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "fuzz/plain_regex.hpp"

using namespace rooms;

namespace {

constexpr std::size_t kLongest = 400;  // the expression is slow

const std::string kSpace = "[ \t]*";
const std::string kToken = kTokenChars + "+";
const std::string kValue = "(" + kToken + "|\"(\\\\?" + kTokenChars + ")+\")";
const std::string kParameter = kSpace + ";" + kSpace + kToken + "(" + kSpace + "=" + kSpace + kValue + ")?";
const std::string kExtension = kToken + "(" + kParameter + ")*" + kSpace;
const PlainRegex kLine("^[ \t,]*(" + kExtension + ",[ \t,]*)*(" + kExtension + ")?$");

bool is_well_formed(std::string_view line) { return kLine.matches(line); }

// What we would answer to it. Nothing: we decline.
std::optional<std::string> answer(std::string_view offer) {
    const std::set<std::string_view> all = {"8", "9", "10", "11", "12", "13", "14", "15"};
    const auto words = split_plainly(offer, ';');
    if (words[0] != "permessage-deflate") return std::nullopt;
    std::string text = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    std::set<std::string_view> seen;
    for (std::size_t i = 1; i < words.size(); ++i) {
        const auto parts = split_plainly(words[i], '=');
        const std::string_view name = parts[0];
        const bool flag = name == "server_no_context_takeover" || name == "client_no_context_takeover";
        const bool server_bits = name == "server_max_window_bits";
        if (!seen.insert(name).second) return std::nullopt;
        if (!flag && !server_bits && name != "client_max_window_bits") return std::nullopt;
        if (flag ? parts.size() > 1 : parts.size() > 1 && !all.contains(parts[1])) return std::nullopt;
        if (server_bits && (parts.size() == 1 || parts[1] == "8")) return std::nullopt;
        if (server_bits) text += "; server_max_window_bits=" + std::string(parts[1]);
    }
    return text;
}

std::string first_answer(const std::vector<std::string_view>& lines) {
    for (const std::string_view line : lines) {
        std::string bare(line);
        std::erase_if(bare,
                      [](char c) { return std::string_view(" \t\"\\").find(c) != std::string_view::npos; });
        for (const std::string_view offer : split_plainly(bare, ',')) {
            if (auto text = answer(offer)) return *text;
        }
    }
    return {};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), std::min(size, kLongest));
    const std::vector<std::string_view> lines = split_plainly(text, '\n');
    DeflateConfig config;
    config.enabled = true;
    const ExtensionsResult result = negotiate_extensions(lines, config);
    FUZZ_CHECK(result.malformed == !std::all_of(lines.begin(), lines.end(), is_well_formed));
    FUZZ_CHECK(result.response == (result.malformed ? std::string() : first_answer(lines)));
    FUZZ_CHECK(result.deflate.has_value() == !result.response.empty());
    if (!result.deflate) return 0;
    const std::string bits = "=" + std::to_string(result.deflate->server_max_window_bits);
    FUZZ_CHECK(result.response.ends_with(bits) || (bits == "=15" && result.response.find('=') == text.npos));
    // The answer is itself an offer that is answered in the same words.
    const std::string_view again = result.response;
    FUZZ_CHECK(negotiate_extensions({&again, 1}, config).response == again);
    return 0;
}
