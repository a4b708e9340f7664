// Runs a fuzz target over files, without libFuzzer: `replay FILE|DIRECTORY …`. So the corpora are
// part of every `make test` for the price of a link, with the unit tests' sanitized objects.
//
// A fault ends the program; the name of the input stands on the last line of its output.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

void run(const std::filesystem::path& file) {
    std::ifstream stream(file, std::ios::binary);
    const std::vector<char> bytes(std::istreambuf_iterator<char>(stream), {});
    std::printf("%s\n", file.c_str());
    std::fflush(stdout);
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

}  // namespace

int main(int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
        const std::filesystem::path path(argv[i]);
        if (!std::filesystem::is_directory(path)) {
            run(path);
            continue;
        }
        for (const auto& entry : std::filesystem::directory_iterator(path)) run(entry.path());
    }
    LLVMFuzzerTestOneInput(nullptr, 0);
}
