#include "image/chain_opener.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/resource.h>

#include <algorithm>

#include "image/known_children.h"
#include "image/parent_search.h"

namespace vhdkit::image {
namespace {

// Long chains need more open files than the usual soft limit of 1,024 allows.
constexpr size_t layers_before_more_files = 256;
constexpr rlim_t files_for_any_chain = 4096;

void allow_more_files() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= files_for_any_chain) return;
  limit.rlim_cur = std::min(limit.rlim_max, files_for_any_chain);
  setrlimit(RLIMIT_NOFILE, &limit);  // where it fails, opening a file will say so
}

// The more a candidate had in common with the parent, the more its failure tells.
int weight_of(LinkVerdict verdict) {
  switch (verdict) {
    case LinkVerdict::cycle:
      return 3;
    case LinkVerdict::wrong_identity:
      return 2;
    case LinkVerdict::unreadable:
      return 1;
    default:
      return 0;
  }
}

std::string text_of(const std::vector<Guid>& identities) {
  std::vector<std::string> texts;
  for (const Guid& identity : identities) texts.push_back(identity.to_string());
  return fmt::format("{}", fmt::join(texts, " or "));
}

}  // namespace

Async<void> ChainOpener::run(const std::string& path) {
  CO_TRY(co_await open_first(path));
  CO_TRY(refuse_needless_parent());
  if (!options_.open_parents) co_return Result<void>();
  while (links_.back().verdict == LinkVerdict::ok && child().parent() != nullptr) {
    CO_TRY(co_await open_parent());
  }
  co_return refuse_needless_parent();
}

Async<void> ChainOpener::open_first(const std::string& path) {
  if (options_.writable && (options_.ignore_log || options_.force_share))
    co_return fail(Errc::invalid_argument,
                   path + ": an image is only written with its log and with a lock");
  const FileOptions file_options{.format = options_.format,
                                 .writable = options_.writable,
                                 .force_share = options_.force_share,
                                 .direct = options_.direct};
  CO_TRY_LET(OpenedFile opened, co_await open_file(loop_, path, file_options));
  const LayerOptions layer_options{.ignore_log = options_.ignore_log,
                                   .writable = options_.writable,
                                   .keep_identity = options_.keep_identity};
  CO_TRY_LET(auto layer, co_await open_layer(std::move(opened.file), opened.format, layer_options));
  links_.emplace_back().tried.push_back(path);
  accept(path, opened, std::move(layer));
  if (options_.writable && !options_.keep_identity) co_return co_await warn_of_children();
  co_return Result<void>();
}

Result<void> ChainOpener::refuse_needless_parent() const {
  const std::optional<std::string> given = given_parent();
  if (!given || child().parent() != nullptr) return {};
  return fail(
      Errc::invalid_argument,
      fmt::format("{}: has no parent, but {} was given as its parent", child_path(), *given));
}

Async<void> ChainOpener::warn_of_children() {
  CO_TRY_LET(const std::vector<std::string> children,
             co_await known_children(loop_, links_.front().path, *layers_.front()));
  for (const std::string& one : children)
    links_.front().warnings.push_back(
        fmt::format("{}: is the parent of {}: once it is written, that image is broken",
                    links_.front().path, one));
  co_return Result<void>();
}

Async<void> ChainOpener::open_parent() {
  if (layers_.size() == layers_before_more_files) allow_more_files();
  const std::vector<std::string> paths = candidates();
  std::vector<std::string> tried;
  Attempt best{.verdict = LinkVerdict::missing};
  if (layers_.size() == max_chain_length) {
    best = {LinkVerdict::too_deep, Errc::unsupported,
            fmt::format("{}: has a parent, and the chain is {} images long already", child_path(),
                        max_chain_length)};
    end_broken(std::move(best), std::move(tried));
    co_return Result<void>();
  }
  for (const std::string& path : paths) {
    tried.push_back(path);
    CO_TRY_LET(Attempt attempt, co_await try_candidate(path));
    if (attempt.verdict == LinkVerdict::ok) {
      links_.back().tried = std::move(tried);
      co_return Result<void>();
    }
    if (weight_of(attempt.verdict) > weight_of(best.verdict)) best = std::move(attempt);
  }
  end_broken(std::move(best), std::move(tried));
  co_return Result<void>();
}

std::optional<std::string> ChainOpener::given_parent() const {
  if (layers_.size() == 1) return options_.parent_path;
  if (layers_.size() == 2) return options_.grandparent_path;
  return std::nullopt;
}

std::vector<std::string> ChainOpener::candidates() const {
  if (const std::optional<std::string> given = given_parent()) return {*given};
  return parent_candidates(child_path(), reference(), options_.path_mappings);
}

Async<ChainOpener::Attempt> ChainOpener::try_candidate(const std::string& candidate) {
  Attempt attempt{.verdict = LinkVerdict::unreadable};
  std::optional<Format> format;
  if (!reference().format.empty()) {
    format = parse_format(reference().format);
    attempt.code = Errc::unsupported;
    attempt.message = fmt::format("{}: the child says that it has the format \"{}\"", candidate,
                                  reference().format);
    if (!format) co_return attempt;
  }
  // Before it is opened: the chain's own locks would keep us out.
  const std::optional<FileIdentity> identity = identity_at(candidate);
  const auto met = identity ? depth_of_file_.find(*identity) : depth_of_file_.end();
  if (met != depth_of_file_.end()) co_return meet_again(candidate, met->second);
  FileOptions file_options{.format = format,
                           .force_share = options_.force_share,
                           .direct = options_.direct,
                           .refuse_gzip = is_searched_for()};
  auto opened = co_await open_file(loop_, candidate, file_options);
  // A whole fixed VHD whose guest has written another format's header to its head.
  if (!opened && opened.error().code == Errc::invalid_argument &&
      links_.back().format == Format::vhd) {
    file_options.format = Format::vhd;
    opened = co_await open_file(loop_, candidate, file_options);
  }
  if (!opened) {
    if (opened.error().code == Errc::not_found) attempt.verdict = LinkVerdict::missing;
    attempt.code = opened.error().code;
    attempt.message = std::move(opened.error().message);
    co_return attempt;
  }
  const LayerOptions layer_options{.ignore_log = options_.ignore_log};
  auto layer = co_await open_layer(std::move(opened->file), opened->format, layer_options);
  if (!layer) {
    attempt.code = layer.error().code;
    attempt.message = std::move(layer.error().message);
    co_return attempt;
  }
  attempt = compare_with_reference(candidate, **layer);
  if (attempt.verdict != LinkVerdict::ok) co_return attempt;
  std::vector<std::string> warnings = time_stamp_warnings(**layer);
  links_.emplace_back().warnings = std::move(warnings);
  accept(candidate, *opened, std::move(*layer));
  co_return attempt;
}

// A file of the chain was found once more. That is a cycle only if the child means it: a parent
// that is not there may well bear the name of its child.
ChainOpener::Attempt ChainOpener::meet_again(const std::string& candidate, size_t depth) const {
  const disk::Layer& layer = *layers_[depth];
  if (!reference().identities.empty() && !names(reference(), layer.identity()))
    return compare_with_reference(candidate, layer);
  return {LinkVerdict::cycle, Errc::corrupt,
          fmt::format("{} is in the chain already, as {}: the chain has no end", candidate,
                      links_[depth].path)};
}

ChainOpener::Attempt ChainOpener::compare_with_reference(const std::string& candidate,
                                                         const disk::Layer& parent) const {
  if (!reference().identities.empty() && !names(reference(), parent.identity())) {
    const std::string found = parent.identity()
                                  ? "has the identifier " + parent.identity()->to_string()
                                  : "has no identifier";
    return {LinkVerdict::wrong_identity, Errc::wrong_parent,
            fmt::format("{} {}, and the child names {}", candidate, found,
                        text_of(reference().identities))};
  }
  const uint32_t own = child().geometry().logical_sector_bytes;
  const uint32_t theirs = parent.geometry().logical_sector_bytes;
  if (own != theirs && !reference().identities.empty())
    return {LinkVerdict::unreadable, Errc::corrupt,
            fmt::format("{} has logical sectors of {} bytes, and the child of {}", candidate,
                        theirs, own)};
  return {};
}

std::vector<std::string> ChainOpener::time_stamp_warnings(const disk::Layer& parent) const {
  const std::optional<uint32_t> expected = reference().time_stamp;
  const std::optional<uint32_t> found = parent.time_stamp();
  if (!expected || !found || *expected == *found) return {};
  const int64_t difference = int64_t{*found} - int64_t{*expected};
  return {
      fmt::format("{}: its parent's time stamp is {} seconds {} than when the child was made; "
                  "the identifier fits, so only a change of the parent would matter",
                  child_path(), std::abs(difference), difference > 0 ? "later" : "earlier")};
}

void ChainOpener::accept(const std::string& path, const OpenedFile& opened,
                         std::unique_ptr<disk::Layer> layer) {
  links_.back().path = path;
  links_.back().format = opened.format;
  links_.back().identity = opened.identity;
  links_.back().allocated_bytes = opened.allocated_bytes;
  depth_of_file_[opened.identity] = layers_.size();
  layers_.push_back(std::move(layer));
}

void ChainOpener::end_broken(Attempt attempt, std::vector<std::string> tried) {
  ChainLink link{.path = tried.empty() ? reference().name : tried.front(),
                 .format = std::nullopt,
                 .verdict = attempt.verdict};
  if (attempt.verdict == LinkVerdict::missing) {
    link.message = where_it_was_looked_for(tried);
  } else if (attempt.verdict == LinkVerdict::too_deep) {
    link.message = attempt.message;
  } else {
    link.message = fmt::format("{}: its parent: {}", child_path(), attempt.message);
  }
  link.tried = std::move(tried);
  broken_code_ = attempt.code;
  links_.push_back(std::move(link));
}

std::string ChainOpener::where_it_was_looked_for(const std::vector<std::string>& tried) const {
  std::vector<std::string> stored;
  for (const disk::ParentPath& path : reference().paths)
    stored.push_back(fmt::format("\"{}\" ({})", path.path, path.locator));
  const std::string named = stored.empty() ? "no path" : fmt::format("{}", fmt::join(stored, ", "));
  const std::string looked =
      tried.empty() ? "and none of that leads anywhere here" : "and there is none of";
  return fmt::format(
      "{}: its parent was not found: the child names {}, {} {}; --parent and --map "
      "say where parents are",
      child_path(), named, looked, fmt::join(tried, ", "));
}

}  // namespace vhdkit::image
