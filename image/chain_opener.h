// Opens an image and, one after another, its parents.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "image/image.h"
#include "image/open_file.h"

namespace vhdkit::image {

// Loop-bound, for one chain. Reads only; a candidate for a parent must prove itself before it
// becomes part of the chain.
class ChainOpener {
 public:
  // Both outlive it.
  ChainOpener(async::Loop& loop, const OpenOptions& options) : loop_(loop), options_(options) {}

  // Fails only where the first image cannot be opened, or where a parent was given for an image
  // that has none; else the last of links() says how the chain ends.
  Async<void> run(const std::string& path);

  const std::vector<ChainLink>& links() const { return links_; }
  std::vector<ChainLink> take_links() { return std::move(links_); }
  std::vector<std::unique_ptr<disk::Layer>> take_layers() { return std::move(layers_); }
  // The error code for a last link that is not ok.
  Errc broken_code() const { return broken_code_; }

 private:
  // Why a candidate is not the parent; ok where it is.
  struct Attempt {
    LinkVerdict verdict = LinkVerdict::ok;
    Errc code = Errc::not_found;
    std::string message;
  };

  Async<void> open_first(const std::string& path);
  Async<void> warn_of_children();
  Async<void> open_parent();
  Async<Attempt> try_candidate(const std::string& candidate);
  std::optional<std::string> given_parent() const;  // of the last image so far
  Result<void> refuse_needless_parent() const;
  std::vector<std::string> candidates() const;
  Attempt meet_again(const std::string& candidate, size_t depth) const;
  Attempt compare_with_reference(const std::string& candidate, const disk::Layer& parent) const;
  std::vector<std::string> time_stamp_warnings(const disk::Layer& parent) const;
  void accept(const std::string& path, const OpenedFile& opened,
              std::unique_ptr<disk::Layer> layer);
  void end_broken(Attempt attempt, std::vector<std::string> tried);
  std::string where_it_was_looked_for(const std::vector<std::string>& tried) const;

  // Whether anything may lie where it is looked for; a qcow2 image says which file it means.
  bool is_searched_for() const { return !given_parent() && !reference().identities.empty(); }
  const disk::Layer& child() const { return *layers_.back(); }
  const disk::ParentReference& reference() const { return *child().parent(); }
  const std::string& child_path() const { return links_.back().path; }

  async::Loop& loop_;
  const OpenOptions& options_;
  std::vector<ChainLink> links_;
  std::vector<std::unique_ptr<disk::Layer>> layers_;
  std::map<FileIdentity, size_t> depth_of_file_;
  Errc broken_code_ = Errc::not_found;
};

}  // namespace vhdkit::image
